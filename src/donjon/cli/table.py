"""Every command of `donjon`, as data: what parsing, --help and shell completion are made from.

A command that is not done is not here. Reading this module costs every start some 0.2 ms, so it imports nothing and
its handlers are names, "module:function", resolved when one is called. A handler takes `parse.Options` and returns an
exit code.

To add a command: an entry in `COMMANDS`, a handler, and a test; help and completion follow.
"""

from __future__ import annotations

__all__ = ["COMMANDS", "GLOBAL", "GROUPS", "RUN", "Argument", "Command", "Option"]


class Option:
    """`--name VALUE`, or a flag when `value` is empty.

    Args:
        name: with its dashes; "--log-filter" becomes the attribute `log_filter`.
        value: what the help calls the value, in capitals; "" makes it a flag.
        about: one sentence for the help, lower case, no period.
        short: one dash and one letter.
        env: X when DONJON_X, then ENARX_X, stands in for a missing option; an empty variable counts as absent.
        default: shown in the help and used when neither is given.
        words: the words allowed, or "module:NAME" of them, looked up only when one was given.
        check: "module:function" that is called with the value and where it stands, and raises UsageError for a bad one.
        required: without it the command cannot run.
        files: shell completion offers files.
    """

    __slots__ = ("about", "check", "default", "env", "files", "name", "required", "short", "value", "words")

    def __init__(
        self, name: str, value: str, about: str, short: str = "", env: str = "", default: str | None = None,
        words: tuple[str, ...] | str = (), check: str = "", required: bool = False, files: bool = False,
    ) -> None:  # fmt: skip
        self.name = name
        self.value = value
        self.about = about
        self.short = short
        self.env = env
        self.default = default
        self.words = words
        self.check = check
        self.required = required
        self.files = files

    @property
    def key(self) -> str:
        """The attribute under which a handler finds the value."""
        return self.name[2:].replace("-", "_")

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that stand in, first the one that wins."""
        return (f"DONJON_{self.env}", f"ENARX_{self.env}") if self.env else ()


class Argument:
    """A word without dashes, by position; with a default it may be left out. `words` and `files` as for `Option`.

    `several` takes all words that are left, at least one, as a tuple; the last argument of a command may have it.
    """

    __slots__ = ("about", "default", "files", "name", "several", "words")

    def __init__(
        self, name: str, about: str, default: str | None = None, words: tuple[str, ...] = (), files: bool = False,
        several: bool = False,
    ) -> None:  # fmt: skip
        self.name = name
        self.about = about
        self.default = default
        self.words = words
        self.files = files
        self.several = several

    @property
    def key(self) -> str:
        """The attribute under which a handler finds the value."""
        return self.name.lower()


class Command:
    """One command.

    Args:
        name: its words, "config init".
        summary: what it does, one line, no period.
        handler: "module:function".
        group: the heading under which `donjon --help` lists it.
        details: paragraphs for --help, between empty lines.
        rest: what the words after `--` are for, when it takes them (as the attribute `args`).
        exits: exit codes and their meaning, where they say more than "0, or not".
        examples: command lines, each with what it is for.
    """

    __slots__ = ("arguments", "details", "examples", "exits", "group", "handler", "name", "options", "rest", "summary")

    def __init__(
        self, name: str, summary: str, handler: str, group: str, arguments: tuple[Argument, ...] = (),
        options: tuple[Option, ...] = (), rest: str = "", details: str = "",
        exits: tuple[tuple[str, str], ...] = (), examples: tuple[tuple[str, str], ...] = (),
    ) -> None:  # fmt: skip
        self.name = name
        self.summary = summary
        self.handler = handler
        self.group = group
        self.arguments = arguments
        self.options = options
        self.rest = rest
        self.details = details
        self.exits = exits
        self.examples = examples


GLOBAL = (
    Option(
        "--log-filter", "FILTER",
        "how much to tell: off, error, warn, info, debug, trace, or by part: donjon.tls=debug",
        env="LOG", default="info", check="donjon.log:parse_filter",
    ),
    Option("--log-target", "STREAM", "where to tell it", default="stderr", words=("stderr", "stdout")),
    Option("--help", "", "print help; -h prints the short form", short="-h"),
    Option("--version", "", "print the version", short="-V"),
)  # fmt: skip
"""Options of every command; they may stand before its name too."""

_VARIANT = Option(
    "--variant",
    "NAME",
    "production; debug, which has a console; simulated, for tests",
    default="production",
    words="donjon.image.recipe:VARIANTS",
)
_FIRMWARE = Option("--firmware", "FILE", "OVMF; without it, DONJON_FIRMWARE, or the one of a package", files=True)
_LAB = Option("--sim", "DIR", "the lab, as sim init makes it", default="lab", files=True)
_HARDWARE = Option("--tee", "NAME", "which hardware", default="snp", words="donjon.sim.lab:TEES")
_BOUND = Option("--workload", "HEX", "digest of the workload that the launcher puts into the evidence")
_STATE = Option(
    "--state", "WORDS", "of the hardware, words with commas, as sim states lists them; without it, the best"
)
_MADE_AT = Option("--at", "TIME", "when it is made, such as 2026-06-01T12:00:00Z; without it, now")

RUN = Command(
    "run",
    "Run a WebAssembly program in a Keep",
    handler="donjon.cli.run:run",
    group="Run",
    arguments=(Argument("MODULE", "the program: a .wasm file, or its text form .wat", files=True),),
    options=(
        Option(
            "--wasmcfgfile", "FILE", "the Enarx.toml that gives the program arguments, variables, files and sockets; "
            "without it the program has stdin, stdout and stderr", env="WASMCFGFILE", files=True,
        ),
        Option(
            "--backend", "NAME", "what holds the Keep: nil, this process; kvm, a virtual machine; or auto, the "
            "strongest that this machine has; nil and kvm protect nobody from the host", env="BACKEND", default="auto",
            words="donjon.platform:BACKENDS",
        ),
        Option(
            "--require", "WHAT", "what has to keep the host out, or nothing runs: tee (any), snp, tdx, sgx or cca",
            words=("tee", "snp", "sev", "tdx", "sgx", "cca"),
        ),
        Option(
            "--name", "NAME", "of the Keep, for donjon ps, logs and stop: letters, digits, -, _ and .; without one, "
            "detached Keeps and virtual machines get one, and others are not listed",
        ),
        Option("--detach", "", "go on in the background: print the Keep's name when the program is about to run"),
        Option(
            "--sandbox", "WHEN", "confine the process that holds the program: auto (as far as this machine can), on "
            "(or it does not start) or off", env="SANDBOX", default="auto", words=("auto", "on", "off"),
        ),
        Option(
            "--attest", "TEE", "whose evidence its certificate has: auto (what this machine speaks for), none, "
            "kvm, snp, tdx, sgx or cca", default="auto", words="donjon.keep.launch:ATTEST",
        ),
        Option(
            "--sim", "DIR", "a lab that `donjon sim init` made: evidence of simulated hardware, for development",
            files=True,
        ),
        Option(
            "--memory", "MIB", "of a virtual machine; by default what the program's size and [limits] ask for",
            check="donjon.cli.run:mebibytes",
        ),
        Option(
            "--accel", "NAME", "what a machine of kvm runs on: kvm, tcg (emulated, slow), or auto", env="ACCEL",
            default="auto", words=("auto", "kvm", "tcg"),
        ),
        Option(
            "--signatures", "FILE", "signatures of the image that `donjon sign` made, for a machine of snp", files=True,
        ),
        Option(
            "--firmware", "FILE", "firmware of a machine of snp or tdx; by default where packages put it",
            files=True,
        ),
        Option(
            "--output", "", "let the host see what the program writes in snp or tdx: the workload's digest says so"
        ),
        Option("--debug", "", "boot the image that has a console, and log what that says; it measures differently"),
        Option(
            "--boot-seconds", "SECONDS", "how long a virtual machine may take to start", env="BOOT_SECONDS",
            default="120", check="donjon.cli.run:seconds",
        ),
        Option(
            "--tsm", "DIR", "where configfs-tsm is, which gives this machine's evidence",
            default="/sys/kernel/config/tsm/report", files=True,
        ),
    ),
    rest="arguments for the program, after those in Enarx.toml",
    details=(
        "The program is compiled on its first run; later runs start from the cache. It sees the files, sockets and "
        "variables that Enarx.toml names and nothing else of this machine. Sockets are TLS unless Enarx.toml says "
        '`prot = "tcp"`.\n\n'
        "stdin, stdout and stderr are the program's. What donjon itself says goes to stderr and begins with `donjon:`."
    ),
    exits=(
        ("0 to 255", "the program ended with this code; 0 is success"),
        ("1", "the module or Enarx.toml is malformed"),
        ("2", "the command line is wrong, or a file is missing"),
        ("3", "this machine cannot do it: a port is taken, no evidence is to be had, the Steward does not answer"),
        ("4", "a peer is not what it claims to be, or the Steward refuses"),
        ("70", "a mistake in donjon"),
        ("130, 143", "ended by Ctrl-C (SIGINT) or SIGTERM"),
        ("134", "the program broke a rule of WebAssembly or of its limits, and was stopped"),
    ),
    examples=(
        ("donjon run hello.wasm", "a program that only prints"),
        ("donjon hello.wasm -- Ada 3", "the short form, with arguments for the program"),
        ("donjon run echo.wasm --wasmcfgfile Enarx.toml", "a service, with the sockets that Enarx.toml names"),
    ),
)  # fmt: skip

_DEMANDS = (
    Option("--steward-root", "FILES", "roots of Stewards to believe, PEM", files=True),
    Option("--roots", "FILE", "roots of hardware to believe beside the vendors' own, for evidence itself", files=True),
    Option("--tee", "NAMES", "the TEE: snp, tdx, sgx, cca or kvm"),
    Option("--product", "NAMES", "the processor or platform, as its vendor names it"),
    Option("--measurement", "DIGESTS", "the launch digest, hex"),
    Option("--workload", "DIGESTS", "the workload's digest, 64 hex digits"),
    Option("--name", "NAMES", "a name or address that the Steward gave to the workload"),
    Option("--max-age", "TIME", "how long ago the Steward may have judged, such as 24h"),
    Option("--accept-unattested", "", "KVM, and hardware of --roots that is simulated, may pass: it proves nothing"),
)  # fmt: skip
"""What is demanded of a Keep."""

_RECORDED = Option("--recorded", "DIR", "the machine of a record, instead of this one", files=True)
_FROM = Option("--from", "URL", "whom to ask instead of the vendor, such as a cache of your own")


def _kept(folder: str) -> tuple[Option, ...]:
    return (Option("--cache", "DIR", f"where it is kept, instead of {folder}", files=True), _FROM)


_AMD, _INTEL = _kept("/var/cache/amd-sev"), _kept("/var/cache/intel-sgx")
_BOTH = _kept("/var/cache/amd-sev or /var/cache/intel-sgx")
_VERIFIED = "Nothing is kept that the vendor has not signed. It prints what it has written."

_LIST = (
    RUN,
    Command(
        "ps",
        "List the Keeps that run",
        handler="donjon.cli.keeps:ps",
        group="Run",
        options=(Option("--json", "", "as JSON: a list of objects"),),
        details=(
            "It lists this user's Keeps on this machine: those that were started with --detach or --name, and those in "
            "virtual machines."
        ),
        examples=(("donjon ps", "name, process, backend, listeners, ..."),),
    ),
    Command(
        "logs",
        "Print what a detached Keep and its program have written",
        handler="donjon.cli.keeps:logs",
        group="Run",
        arguments=(Argument("NAME", "the Keep, as donjon ps lists it, or one that has ended"),),
        options=(Option("--follow", "", "go on until the Keep ends"),),
        details="The newest 1 to 2 MiB are kept, and the logs of the last 16 Keeps that have ended.",
        examples=(("donjon logs web --follow", "watch what it writes"),),
    ),
    Command(
        "stop",
        "End a Keep",
        handler="donjon.cli.keeps:stop",
        group="Run",
        arguments=(Argument("NAME", "the Keep, as donjon ps lists it"),),
        options=(Option("--time", "SECONDS", "how long it may take before it is killed", default="10"),),
        examples=(("donjon stop web", "asks it to end, kills it 10 seconds later"),),
    ),
    Command(
        "config init",
        "Write a commented Enarx.toml to start from",
        handler="donjon.cli.config:init",
        group="Run",
        details="It is written to the current directory. A file that is there stays as it is, and the exit code is 1.",
        examples=(("donjon config init", "writes Enarx.toml"),),
    ),
    Command(
        "new",
        "Make a project that builds and runs",
        handler="donjon.cli.project:new",
        group="Make",
        arguments=(Argument("NAME", "the project and its directory"),),
        options=(
            Option("--lang", "LANGUAGE", "what to write it in", words="donjon.project:LANGUAGES",
                   check="donjon.project.creating:check_language", required=True),
        ),
        details="The directory must not exist yet. Nothing is downloaded.",
        examples=(
            ("donjon new hello --lang c", "a project in C, in the directory hello"),
            ("donjon new site --lang rust", "the same in Rust"),
        ),
    ),
    Command(
        "build",
        "Compile a project to WebAssembly",
        handler="donjon.cli.project:build",
        group="Make",
        arguments=(Argument("DIR", "the project's directory", default=".", files=True),),
        details="It uses the compiler of the project's language, and says what to install when that is missing. It "
        "downloads nothing.",
        examples=(
            ("donjon build", "the project in the current directory"),
            ("donjon build hello", "the project in hello"),
        ),
    ),
    Command(
        "platform info",
        "Show what this machine offers for running Keeps",
        handler="donjon.cli.platform:info",
        group="Host",
        options=(Option("--json", "", "print one JSON object instead", short="-j"), _RECORDED),
        details="Facts only: it changes nothing, and its exit code is 0 whatever it finds. It prints no secret: paste "
        "it into a report.",
        examples=(
            ("donjon platform info", "for people"),
            ("donjon platform info --json", "for programs"),
        ),
    ),
    Command(
        "doctor",
        "Say what works on this machine, and how to mend the rest",
        handler="donjon.cli.doctor:run",
        group="Host",
        options=(
            Option("--backend", "NAME", "judge this one alone", words="donjon.cli.doctor:NAMES"),
            Option("--anew", "", "try KVM again, although it was tried since the machine started"),
            Option("--json", "", "print one JSON object instead", short="-j"),
            _RECORDED,
        ),
        details="What counts, without --backend: nil, and each backend that keeps the host out and whose hardware is "
        "here. It changes nothing: the commands are for you.",
        exits=(("0", "what counts works"), ("3", "something is missing; it says what")),
        examples=(
            ("donjon doctor", "the whole machine"),
            ("donjon doctor --backend snp", "AMD SEV-SNP alone"),
        ),
    ),
    Command(
        "platform record",
        "Record what is known of this machine, to look at elsewhere",
        handler="donjon.cli.platform:record",
        group="Host",
        arguments=(Argument("DIR", "an empty directory, or none yet", files=True),),
        details="The record holds the answers to what platform info asks, and no secret: no environment, no host name, "
        "no addresses; numbers that name a chip are replaced. Read it before you send it.",
        examples=(
            ("donjon platform record machine", "writes it"),
            ("donjon platform info --recorded machine", "what it says"),
        ),
    ),
    Command(
        "platform snp update",
        "Fetch AMD's certificate of this chip (VCEK)",
        handler="donjon.cli.caches:update_vcek",
        group="Host",
        options=_AMD,
        details="It asks /dev/sev for the chip's id and its TCB, and AMD for the certificate. " + _VERIFIED,
        examples=(("donjon platform snp update", "as root"),),
    ),
    Command(
        "platform snp cache-crl",
        "Fetch AMD's revocation lists",
        handler="donjon.cli.caches:amd_lists",
        group="Host",
        options=_AMD,
        details="Those of all products: Milan, Genoa, Turin. " + _VERIFIED,
        examples=(("donjon platform snp cache-crl", "as root"),),
    ),
    Command(
        "platform snp vcek",
        "Print AMD's certificate of this chip, DER",
        handler="donjon.cli.caches:vcek",
        group="Host",
        options=(Option("--file", "", "print where it is kept instead"), *_AMD),
        exits=(("0", "done"), ("3", "it is not there, or /dev/sev cannot be asked")),
        examples=(("donjon platform snp vcek --file", "where it is"),),
    ),
    Command(
        "platform sgx cache-crl",
        "Fetch Intel's revocation lists",
        handler="donjon.cli.caches:intel_lists",
        group="Host",
        options=_INTEL,
        details="They hold for SGX and TDX. " + _VERIFIED,
        examples=(("donjon platform sgx cache-crl", "as root"),),
    ),
    Command(
        "platform sgx cache-pck",
        "Find out from Intel which kind of machine this is",
        handler="donjon.cli.caches:intel_pck",
        group="Host",
        options=_INTEL,
        details="Intel's PCKIDRetrievalTool has to have written pckid_retrieval.csv into the directory. The machine's "
        "FMSPC is kept in fmspc.txt. " + _VERIFIED,
        examples=(("donjon platform sgx cache-pck", "as root"),),
    ),
    Command(
        "platform sgx cache-tcb",
        "Fetch Intel's TCB info of this kind of machine",
        handler="donjon.cli.caches:intel_tcb",
        group="Host",
        options=_INTEL,
        details="For SGX and, where the machine has it, for TDX. fmspc.txt has to be there: platform sgx cache-pck "
        "writes it. " + _VERIFIED,
        examples=(("donjon platform sgx cache-tcb", "as root"),),
    ),
    Command(
        "platform sgx register",
        "Register this machine with Intel",
        handler="donjon.cli.caches:register",
        group="Host",
        options=_INTEL,
        details="It sends the manifest that the BIOS has left in an EFI variable. Once in a machine's life, for SGX "
        "and TDX on machines with several processors.",
        examples=(("donjon platform sgx register", "as root"),),
    ),
    Command(
        "update-cache",
        "Fetch what ends: the vendor's lists for this machine",
        handler="donjon.cli.caches:update",
        group="Host",
        options=_BOTH,
        details="On AMD's processors platform snp cache-crl; on Intel's platform sgx cache-crl and cache-tcb.",
        examples=(("donjon update-cache", "as root, once a week"),),
    ),
    Command(
        "initialize",
        "Do what a machine needs once",
        handler="donjon.cli.caches:initialize",
        group="Host",
        options=_BOTH,
        details="On AMD's processors platform snp update; on Intel's platform sgx register.",
        examples=(("donjon initialize", "as root"),),
    ),
    Command(
        "verify",
        "Check from outside what a Keep is",
        handler="donjon.cli.verify:verify",
        group="Attest",
        arguments=(
            Argument(
                "WHAT", "HOST:PORT of a Keep, - for standard input, or files: a chain of certificates, evidence, a "
                "request, and collateral that helps to judge it", files=True, several=True,
            ),
        ),
        options=(
            *_DEMANDS,
            Option("--policy", "FILE", "demands in a file; what stands there is no option as well", files=True),
            Option("--at", "TIME", "the time to judge at, such as 2026-06-01T12:00:00Z; without it, now"),
            Option("--timeout", "SECONDS", "for connecting, and again for the handshake", default="10"),
            Option("--json", "", "print one JSON object instead", short="-j"),
        ),
        details="With --steward-root the certificate must come from that Steward, whose judgement in it is believed. "
        "Without, it must carry the evidence itself, which is verified here by the vendor's roots. Several values of "
        "one demand, with commas between them, are alternatives; all demands must hold.\n\n"
        "Nothing is sent to the Keep but a TLS handshake, and nothing is fetched from anybody else.",
        exits=(
            ("0", "everything that was demanded holds"),
            ("1", "a file is malformed"),
            ("2", "the command line is wrong, or a file is missing"),
            ("3", "nobody is there, or it speaks no TLS 1.3"),
            ("4", "something does not hold: each check that failed is shown"),
        ),
        examples=(
            ("donjon verify shop.example.com:8443 --steward-root root.pem", "who judged, and what"),
            ("donjon verify [::1]:8443 --policy verify.toml", "with the demands of a file"),
            ("donjon verify chain.pem --steward-root root.pem --json", "certificates in a file, for programs"),
        ),
    ),
    Command(
        "connect",
        "Open a door on this machine to a proven Keep",
        handler="donjon.cli.verify:connect",
        group="Attest",
        arguments=(Argument("HOST", "HOST:PORT of the Keep"),),
        options=(
            Option(
                "--expect", "WHAT", "a file with demands, or demands, as in tee=snp,workload=HEX",
                required=True, files=True,
            ),
            Option("--listen", "ADDRESS", "HOST:PORT here; port 0 takes any", default="127.0.0.1:0"),
            Option(
                "--pin", "WHAT", "what must stay as it was at the start: proof, key, or none beyond what is expected",
                default="proof", words=("proof", "key", "none"),
            ),
        ),
        details="Each connection gets one of its own to the Keep, over TLS 1.3, which is judged before the first byte "
        "of either side passes. With --pin proof, the TEE, the measurement, the workload and the Steward stay those of "
        "the first proof, while a Keep may renew its key; with --pin key, the key stays too.",
        exits=(
            ("0", "ended by SIGTERM or Ctrl-C"),
            ("1", "a file is malformed"),
            ("2", "the command line is wrong, or a file is missing"),
            ("3", "the port is taken, or the Keep is not there at the start"),
            ("4", "the Keep is not what was expected at the start"),
        ),
        examples=(
            ("donjon connect shop.example.com:8443 --expect verify.toml --listen 127.0.0.1:8080", "a policy's demands"),
            ("donjon connect [::1]:8443 --expect steward_root=root.pem,tee=snp", "a few demands, on any port"),
        ),
    ),
    Command(
        "workload digest",
        "Print the digest that names a workload",
        handler="donjon.cli.workload:digest",
        group="Attest",
        arguments=(Argument("MODULE", "the program: a .wasm file, or its text form .wat", files=True),),
        options=(
            Option("--wasmcfgfile", "FILE", "the Enarx.toml that it runs with", env="WASMCFGFILE", files=True),
            Option("--json", "", "print one JSON object with all that goes into it", short="-j"),
        ),
        rest="arguments for the program, after those in Enarx.toml",
        details="It covers the module, Enarx.toml, the files that [roots] in it names, and the arguments after --. "
        "Hardware signs it, a Steward's certificate has it as a name, and a policy lists it in [[workload]]. With "
        "--json the package's own digest is there too, which is the one that Drawbridge has.",
        examples=(
            ("donjon workload digest main.wasm --wasmcfgfile Enarx.toml", "what `donjon run` with the same words has"),
            ("donjon workload digest --json main.wasm -- Ada 3", "with arguments, for programs"),
        ),
    ),
    Command(
        "steward init",
        "Write a commented policy for a Steward to start from",
        handler="donjon.cli.steward:init",
        group="Attest",
        details="It is written to steward.toml in the current directory. A file that is there stays as it is, and the "
        "exit code is 1.",
        examples=(("donjon steward init", "writes steward.toml"),),
    ),
    Command(
        "steward judge",
        "Judge evidence as a Steward would, and show every check",
        handler="donjon.cli.steward:judge",
        group="Attest",
        arguments=(
            Argument(
                "FILE", "requests (PKCS#10), evidence (SNP report, SGX or TDX quote, CCA token), and what helps to "
                "judge it: certificates, CRLs, Intel's collateral", files=True, several=True,
            ),
        ),
        options=(
            Option("--policy", "FILE", "the policy; without it the safe defaults hold", files=True),
            Option("--at", "TIME", "the time to judge at, such as 2026-06-01T12:00:00Z; without it, now"),
            Option("--roots", "FILE", "roots to believe beside the vendors' own", files=True),
            Option("--endorsements", "DIR", "statements about workloads that signers have signed", files=True),
            Option("--report-data", "HEX", "the 64 bytes that bare evidence has to bind; requests bind their key"),
            Option("--json", "", "print one JSON object instead", short="-j"),
        ),
        details="Nothing is fetched, nothing is recorded, nothing is issued: the answer depends on the files and the "
        "time alone. What each file is, its content says.",
        exits=(
            ("0", "everything was accepted"),
            ("1", "a file is malformed"),
            ("2", "the command line is wrong, or a file is missing"),
            ("4", "something was refused"),
        ),
        examples=(
            ("donjon steward judge --policy steward.toml request.csr", "a request, now"),
            ("donjon steward judge --at 2023-01-15T00:00:00Z request.csr", "by the safe defaults, on another day"),
            ("donjon steward judge --json quote.bin collateral.json", "a quote with Intel's collateral, for programs"),
        ),
    ),
    Command(
        "steward serve",
        "Serve certificates to Keeps that prove what they are",
        handler="donjon.cli.steward:serve",
        group="Attest",
        options=(
            Option(
                "--policy", "FILE", "the policy; without it the safe defaults hold", env="STEWARD_POLICY", files=True
            ),
            Option(
                "--state", "DIR", "where the authority and the record are kept; made if it is missing",
                env="STEWARD_STATE", default="steward", files=True,
            ),
            Option(
                "--record", "RECORD", "a file, or a database (postgresql://...); without it, a file in --state",
                env="STEWARD_RECORD", files=True,
            ),
            Option("--key", "FILE", "key of an authority that you have, PEM", env="STEWARD_KEY", files=True),
            Option("--crt", "FILE", "its certificates, PEM, the issuing one first", env="STEWARD_CRT", files=True),
            Option("--roots", "FILE", "roots to believe beside the vendors' own", env="STEWARD_ROOTS", files=True),
            Option(
                "--collateral", "DIR", "CRLs, VCEKs, Intel's collateral that you have, where no vendor can be asked",
                env="STEWARD_COLLATERAL", files=True,
            ),
            Option(
                "--endorsements", "DIR", "statements about workloads that signers have signed, *.json",
                env="STEWARD_ENDORSEMENTS", files=True,
            ),
            Option("--addr", "ADDRESS", "to listen on for Keeps", env="STEWARD_ADDR", default="::"),
            Option("--port", "PORT", "for Keeps; 0 takes any", env="STEWARD_PORT", default="3000"),
            Option("--admin-addr", "ADDRESS", "to listen on for operators", default="127.0.0.1"),
            Option("--admin-port", "PORT", "for operators; 0 takes any", default="3001"),
            Option("--tls-crt", "FILE", "certificates for https, PEM; without it, http", files=True),
            Option("--tls-key", "FILE", "their key, PEM", files=True),
            Option("--drain", "SECONDS", "to go on serving after SIGTERM, while /readyz says no", default="0"),
        ),
        details="Without --key and --crt it makes an authority of its own in the state directory: a root that relying "
        "parties trust, and an issuing key that is renewed by itself. Keep a copy of root.key elsewhere.\n\n"
        "Every decision is on disk, in record.sqlite or a PostgreSQL database, before its answer leaves. A database's "
        "password belongs into PGPASSFILE or a service file, never into --record, which everybody on the machine can "
        "read.\n\nAt SIGHUP it reads the policy, --roots, --collateral, --endorsements and the files for https anew; "
        "what is wrong is said, and the old stays.\n\nOperators have /livez, /readyz, /metrics and the record on a "
        "listener of their own.",
        exits=(
            ("0", "ended by SIGTERM or Ctrl-C"),
            ("1", "a file is malformed"),
            ("2", "the command line is wrong, a file is missing, a key can be read by others"),
            ("3", "this machine cannot do it: a port is taken, a permission is missing"),
        ),
        examples=(
            ("donjon steward serve --policy steward.toml", "with an authority of its own"),
            ("donjon steward serve --key ca.key --crt ca.crt", "with one that you have"),
        ),
    ),
    Command(
        "steward endorse",
        "Vouch for a workload with a signed statement",
        handler="donjon.cli.steward:endorse",
        group="Attest",
        arguments=(Argument("DIGEST", "of the workload or of its package, 64 hex digits"),),
        options=(
            Option(
                "--key", "FILE", "who signs: a private key of P-256, P-384 or Ed25519, PEM", required=True, files=True,
            ),
            Option("--until", "TIME", "when it ends, such as 2026-12-01T00:00:00Z", required=True),
            Option("--title", "TEXT", "for people, such as a name and a version"),
        ),
        details="A policy that names the key below [[workload]] signers then accepts the workload, until the time "
        "given. The statement is printed: send it with requests (endorsements), or put it as a .json file into the "
        "directory that `donjon steward serve` gets with --endorsements.",
        exits=(("0", "done"), ("2", "the command line is wrong, or the key cannot be used")),
        examples=(
            (
                "donjon steward endorse 5e3f... --key release.key --until 2027-01-01T00:00:00Z",
                "a release of a shop",
            ),
        ),
    ),
    Command(
        "steward check-record",
        "Check that a Steward's record is whole",
        handler="donjon.cli.steward:check_record",
        group="Attest",
        arguments=(Argument("RECORD", "its file, or the address of its database", files=True),),
        options=(Option("--head", "HASH", "a hash that was kept elsewhere, which the record must contain"),),
        details="Every entry's hash covers the one before. It prints how many entries there are and the last hash: "
        "keep that elsewhere, and a later check can tell that nothing was cut off. The service may run meanwhile.",
        exits=(("0", "the record is whole"), ("4", "it was changed")),
        examples=(
            ("donjon steward check-record steward/record.sqlite", "the record of a service"),
            ("donjon steward check-record postgresql:///steward", "one in a database"),
        ),
    ),
    Command(
        "sim init",
        "Make a lab: simulated hardware with roots of its own",
        handler="donjon.cli.sim:init",
        group="Simulate",
        arguments=(Argument("DIR", "where its keys are kept; not there yet, or empty", default="lab", files=True),),
        details="Its evidence has the real formats and proves nothing. A Steward accepts it if it is given the lab's "
        "roots.toml and its policy says accept_unattested = true; the certificate then says that it was simulated. "
        "With its firmware.fd virtual machines are measured that `donjon run --backend kvm --sim lab` starts.",
        examples=(
            ("donjon sim init", "makes lab"),
            ("donjon steward serve --roots lab/roots.toml --policy steward.toml", "a Steward that believes it"),
        ),
    ),
    Command(
        "sim states",
        "List the states that simulated hardware can be in",
        handler="donjon.cli.sim:states",
        group="Simulate",
        arguments=(Argument("TEE", "which hardware: snp, tdx, sgx or cca", words=("snp", "tdx", "sgx", "cca")),),
        options=(Option("--json", "", "print one JSON object instead", short="-j"),),
        details="Of each group one word holds; the first does when nothing is said. Beside a word stands the check by "
        "which a Steward's safe defaults refuse such evidence.",
        examples=(("donjon sim states snp", "of AMD's"),),
    ),
    Command(
        "sim evidence",
        "Write evidence of simulated hardware into a file",
        handler="donjon.cli.sim:evidence",
        group="Simulate",
        arguments=(Argument("FILE", "where to write it", files=True),),
        options=(
            _LAB,
            _HARDWARE,
            _BOUND,
            _STATE,
            Option("--key", "FILE", "private key, PEM: writes a certificate request for it, as a Keep would send it",
                   files=True),
            Option("--report-data", "HEX", "the 64 bytes to bind: writes the evidence alone"),
            _MADE_AT,
        ),
        details="The evidence brings the collateral that its format has room for: AMD's certificate and revocation "
        "list, Intel's lists and CRLs, all signed by the lab.",
        examples=(
            ("donjon sim evidence --key keep.key request.csr", "a request that a Steward grants"),
            ("donjon sim evidence --tee tdx --state OutOfDate --key keep.key request.csr", "one that it refuses"),
            ("donjon steward judge --roots lab/roots.toml request.csr", "why"),
        ),
    ),
    Command(
        "sim collateral",
        "Write the collateral of simulated hardware to a file",
        handler="donjon.cli.sim:collateral",
        group="Simulate",
        arguments=(Argument("FILE", "where to write it", files=True),),
        options=(_LAB, _HARDWARE, _STATE, _MADE_AT),
        details="Of snp it is AMD's revocation list, of sgx and tdx Intel's collateral in JSON. Evidence that is "
        "collected from a mounted lab lacks Intel's, as on real machines: a Steward has to have it from elsewhere.",
        examples=(("donjon sim collateral --tee tdx collateral.json", "for a Steward, or for steward judge"),),
    ),
    Command(
        "sim mount",
        "Mount simulated hardware as a kernel shows it",
        handler="donjon.cli.sim:mount",
        group="Simulate",
        arguments=(Argument("MOUNTPOINT", "an empty directory", files=True),),
        options=(_LAB, _HARDWARE, _BOUND, _STATE),
        details="Of snp, tdx and cca it is Linux's configfs-tsm, with the kernel's rules; of sgx Gramine's "
        "/dev/attestation. It stays in the foreground; Ctrl-C unmounts. It needs FUSE, and only this user can look "
        "into it.",
        exits=(("0", "unmounted"), ("3", "this machine cannot mount: no FUSE, no permission")),
        examples=(
            ("donjon sim mount tsm", "SNP, in the directory tsm"),
            ("donjon sim mount --tee sgx attestation", "Gramine's files"),
        ),
    ),
    Command(
        "image build",
        "Build the image that virtual machines start",
        handler="donjon.cli.image:build",
        group="Image",
        options=(
            _VARIANT,
            Option("--out", "DIR", "where to put it; without it, among what is cached for this user", files=True),
        ),
        details="Its packages are downloaded once, some 60 MB, and compared with the lock that is part of Donjon. "
        "Equal versions of Donjon build equal bytes on every machine: compare the digests. What is there already is "
        "not built again. DONJON_MIRROR names a directory or an address where the packages are sought first.",
        exits=(
            ("0", "the image is there"),
            ("1", "a package is not what the lock says"),
            ("2", "the command line is wrong"),
            ("3", "this machine cannot do it: no network, no room, not Linux on x86-64"),
        ),
        examples=(
            ("donjon image build", "what `donjon run` starts"),
            ("donjon image build --variant debug --out debug-image", "one with a console, in a directory"),
        ),
    ),
    Command(
        "image info",
        "Show what an image is, and what each megabyte is for",
        handler="donjon.cli.image:info",
        group="Image",
        options=(
            _VARIANT,
            Option("--check", "", "compare the content of every file with the manifest"),
            Option("--json", "", "print one JSON object instead", short="-j"),
        ),
        details="It builds nothing. DONJON_IMAGE names a directory with an image to use instead of the cached one.",
        exits=(
            ("0", "it is there"),
            ("3", "it is not built yet"),
            ("4", "it is damaged"),
        ),
        examples=(
            ("donjon image info", "for people"),
            ("donjon image info --check --json", "for programs, after reading every byte"),
        ),
    ),
    Command(
        "image measure",
        "Print what hardware will report of an image, for a policy",
        handler="donjon.cli.measure:measure",
        group="Image",
        options=(
            Option("--tee", "NAME", "whose digests: snp or tdx", required=True, words="donjon.cli.measure:TEES"),
            _VARIANT,
            Option("--vcpus", "NUMBERS", "how many processors the guest has", default="1"),
            Option("--cpu", "NAMES", "their model, as QEMU calls it; SNP measures it", default="EPYC-v4"),
            _FIRMWARE,
            Option("--kernel", "FILE", "another image instead: its kernel, bzImage", files=True),
            Option("--initrd", "FILE", "its initramfs", files=True),
            Option("--append", "TEXT", "its command line"),
            Option("--json", "", "print one JSON object instead", short="-j"),
        ),
        details="The lines go into a Steward's policy, or into that of `donjon verify`. For SNP, each pair of number "
        "and model has its own digest, and firmware that does not measure the kernel is refused. For TDX, RTMR0 is not "
        "computed: it depends on tables that QEMU makes. Of the variant debug, the lines also allow what only such "
        "guests do.",
        exits=(
            ("0", "the lines are printed"),
            ("1", "a file is malformed"),
            ("2", "the command line is wrong, or the firmware would boot any kernel"),
            ("3", "there is no image, or no firmware"),
            ("4", "the image is damaged"),
        ),
        examples=(
            ("donjon image measure --tee snp", "the image that was built, one processor"),
            ("donjon image measure --tee snp --vcpus 1,2 --cpu EPYC-v4,EPYC-Genoa", "one or two, of two models"),
            ("donjon image measure --tee snp --kernel bzImage --initrd image --append quiet", "another image"),
        ),
    ),
    Command(
        "key sev create",
        "Make a key that signs ID blocks of SNP",
        handler="donjon.cli.key:sev_create",
        group="Image",
        options=(Option("--out", "FILE", "where to keep it; without it, it is printed", files=True),),
        details="An ECDSA key of P-384 in PEM. The file is readable by its owner alone; one that is "
        "there stays as it is.",
        examples=(("donjon key sev create --out author.key", "an author's key"),),
    ),
    Command(
        "key sev digest",
        "Print the digest by which policies name a key of SNP",
        handler="donjon.cli.key:sev_digest",
        group="Image",
        arguments=(Argument("KEY", "the private key, PEM", files=True),),
        options=(Option("--out", "FILE", "where to write it; without it, it is printed", files=True),),
        details="In a policy, `signer` lists digests of authors' keys, `id_key_digest` those of ID keys.",
        examples=(("donjon key sev digest author.key", "hexadecimal, without a line's end"),),
    ),
    Command(
        "key sev sign",
        "Sign an ID key with an author's key",
        handler="donjon.cli.key:sev_sign",
        group="Image",
        options=(
            Option("--author-key", "FILE", "the author's private key", required=True, files=True),
            Option("--id-key", "FILE", "the ID key", required=True, files=True),
            Option("--out", "FILE", "where to write the signature", required=True, files=True),
        ),
        details="1540 bytes: the signature and the author's public key. The author's key is needed only here.",
        examples=(("donjon key sev sign --author-key a.key --id-key id.key --out id.sig", "once for each ID key"),),
    ),
    Command(
        "key sgx create",
        "Make a key that signs enclaves of SGX",
        handler="donjon.cli.key:sgx_create",
        group="Image",
        options=(Option("--out", "FILE", "where to keep it; without it, it is printed", files=True),),
        details="An RSA key of 3072 bits with the exponent 3 in PEM. The file is readable by its owner alone; one that "
        "is there stays as it is.",
        examples=(("donjon key sgx create --out sgx.key", "a signer's key"),),
    ),
    Command(
        "key sgx digest",
        "Print the digest by which policies name a key of SGX",
        handler="donjon.cli.key:sgx_digest",
        group="Image",
        arguments=(Argument("KEY", "the private key, PEM", files=True),),
        options=(Option("--out", "FILE", "where to write it; without it, it is printed", files=True),),
        details="MRSIGNER of what the key signs; `signer` in a policy lists them.",
        examples=(("donjon key sgx digest sgx.key", "hexadecimal, without a line's end"),),
    ),
    Command(
        "sign",
        "Sign an image: an ID block for SNP, a SIGSTRUCT for SGX",
        handler="donjon.cli.key:sign",
        group="Image",
        options=(
            Option("--sev-id-key", "FILE", "the ID key", files=True),
            Option("--sev-id-key-signature", "FILE", "what key sev sign wrote for it", files=True),
            Option("--launch-digest", "HEX", "of SNP; without it, that of the image which image build made"),
            _VARIANT,
            Option("--vcpus", "NUMBER", "how many processors the guest has", default="1"),
            Option("--cpu", "NAME", "their model, as QEMU calls it", default="EPYC-v4"),
            _FIRMWARE,
            Option("--mrenclave", "HEX", "of SGX"),
            Option("--sgx-key", "FILE", "the signer's key", files=True),
            Option("--out", "FILE", "where to write it; without it, it is printed", files=True),
        ),
        details="JSON in Enarx's format. The same keys and digests give the same bytes. An ID block of the variant "
        "debug is for guests that the host can look into, and for no others.",
        examples=(
            ("donjon sign --sev-id-key id.key --sev-id-key-signature id.sig --out image.sig", "the image, for SNP"),
            ('donjon sign --mrenclave "$(cat mrenclave.hex)" --sgx-key sgx.key', "for SGX"),
        ),
    ),
    Command(
        "completion",
        "Print a script that completes donjon's commands in a shell",
        handler="donjon.cli.completion:completion",
        group="Set up",
        arguments=(Argument("SHELL", "bash, zsh or fish", words=("bash", "zsh", "fish")),),
        details=(
            "bash: put `eval \"$(donjon completion bash)\"` into ~/.bashrc.\n\n"
            "zsh: save it as `_donjon` in a directory of $fpath.\n\n"
            "fish: save it as ~/.config/fish/completions/donjon.fish."
        ),
        examples=(("donjon completion bash", "for bash"), ("donjon completion fish", "for fish")),
    ),
)  # fmt: skip

COMMANDS = {command.name: command for command in _LIST}
"""Name -> command, in the order in which the help lists them."""

GROUPS = tuple(dict.fromkeys(name[:at] for name in COMMANDS for at, letter in enumerate(name) if letter == " "))
"""What whole commands begin with: "platform", "key", "key sev"."""
