"""The file that `donjon config init` writes: every setting with its meaning, most of them switched off.

Lines that begin with "## " explain; taking one "# " from the others switches a setting on (a test does so with all).
"""

TEMPLATE = """\
## Enarx.toml: what a workload finds when it starts in its Keep.
##
## Lines that begin with ## explain. Remove one "# " from another line to switch its setting on.
## What is switched on here is also what a workload gets without any file.
## Settings outside of a [section] must come before the first [section].

## Arguments for the program. It sees "main.wasm" before them, as its own name.
# args = ["--greeting", "hello"]

## The service that certifies the Keep, by its https URL. Without it the Keep signs its certificate itself.
# steward = "https://steward.example.com"
# steward_ca = "company"  ## a name in [roots]: whom to trust for TLS with it, instead of this system's roots

## Environment variables. The program sees these, FD_COUNT and FD_NAMES (see below), and nothing of the host's.
# [env]
# LANGUAGE = "en"

## What the Keep may use. Without this section: as much memory and time as the program asks for.
# [limits]
# memory = "256 MiB"      ## or KiB, GiB, or a number of bytes
# descriptors = 4096      ## open at one time, files below included
# connections = 4096      ## sockets open at one time
# cpu = 60                ## seconds of processor time

## Certificates to trust, under names of your choice: PEM files, looked for beside this file.
# [roots]
# company = "company.pem"
# keeps = "steward-root.pem"

## Files: what the program finds open. The first [[files]] is its descriptor 0, the next one 1, and so on.
## FD_COUNT tells the program how many there are, FD_NAMES their names with ":" between them.
## Each may have a name = "..." of your choice, without ":".

## Descriptors 0, 1 and 2: what programs read from, print to, and report errors to.
## kind = "null" instead reads as empty and swallows what is written.
[[files]]
kind = "stdin"

[[files]]
kind = "stdout"

[[files]]
kind = "stderr"

## A directory of the host, seen by the program as the path `guest`. A relative `host` starts at this file.
## Directories come right after descriptor 2, because programs look for them there.
# [[files]]
# kind = "dir"
# host = "."
# guest = "/data"
# mode = "ro"             ## read only; "rw" lets the program write

## A port that the program accepts connections from. With prot = "tls" the Keep does all of TLS by itself and
## the program sees plain bytes; with prot = "tcp" the bytes are plain on the network too.
# [[files]]
# kind = "listen"
# name = "web"
# prot = "tls"            ## what you get without this line
# addr = "::"             ## every address of this machine, IPv4 too; also the default
# port = 12345            ## 0 takes any free port; the default is 443 for tls, 80 for tcp
# ca = ["keeps"]          ## clients must show a certificate that leads to one of these, names in [roots]

## A connection to a peer, made before the program starts. With "tls" the peer has to prove who it is.
# [[files]]
# kind = "connect"
# name = "database"       ## without this line: the host
# prot = "tls"
# host = "localhost"
# port = 23456
# ca = ["keeps"]          ## trust these, names in [roots], instead of this system's roots

## What a peer must prove, beside a certificate that leads to its `ca`; the same for listen and connect.
## Each line is one more demand, and one entry of its list must fit. A line that says who the peer is (workload,
## names) also replaces the check that its certificate has the name in `host`.
# [files.verify]
# workload = ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
# names = ["shop.example.com"]
# tee = ["snp", "tdx"]
# measurement = ["01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b"]
# max_age = "24h"         ## since a Steward judged it
# accept_unattested = true ## for development: simulated hardware, or none at all
"""
