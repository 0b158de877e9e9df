"""The file that `donjon steward init` writes: the settings with their meaning, all of them switched off.

Lines that begin with "## " explain; taking one "# " from the others switches a setting on (a test does so with all).
"""

TEMPLATE = '''\
## steward.toml: what evidence this Steward accepts, and what its certificates say.
##
## Lines that begin with ## explain. Remove one "# " from another line to switch its setting on.
## What is not switched on has its safe default. A policy that names no measurement lets in every guest that is
## genuine: name yours before you rely on the certificates.
## Try it: donjon steward judge --policy steward.toml request.csr

## How long a certificate lives: m, h or d; from "5m" to "7d".
# lifetime = "24h"

## Evidence must bind a fresh nonce, so that nobody can use old evidence. Keeps of Enarx cannot do that.
# require_nonce = true

## Whose evidence may pass at all, and which keys a Keep may have.
# tees = ["snp", "tdx", "sgx", "cca"]
# keys = ["P-256", "P-384", "Ed25519"]

## Every certificate gets a name of its own below this one, beside the URN that it has anyway.
# domain = "keeps.example.com"

## DANGER. Evidence that proves nothing passes as well: KVM, and simulated hardware whose roots you hand over.
## Certificates and health output then say so. For development only.
# accept_unattested = true

## AMD SEV-SNP
# [snp]
## Launch digests (MEASUREMENT) that may run, and those that may not; 96 hex digits.
# hash = ["000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001"]
# hash_blacklist = []
## SHA-384 of the keys that signed the guest's identity: AUTHOR_KEY_DIGEST, ID_KEY_DIGEST.
# signer = []
# id_key_digest = []
# id_key_digest_blacklist = []
## Milan is known to be broken, by software alone: it passes only if it is named here.
# products = ["Genoa", "Turin"]
## The guest's ABI version, flags that its policy must have, and one of SME and TSME that the platform must have.
# abi = ">=1.51"
# policy_flags = ["SMT"]
# platform_info_flags = "SME"
## Versions of firmware, above those of the shipped table.
# [snp.minimum_tcb.Genoa]
# snp = 23

## Intel SGX
# [sgx]
## MRENCLAVE and MRSIGNER; 64 hex digits.
# hash = ["0000000000000000000000000000000000000000000000000000000000000001"]
# hash_blacklist = []
# signer = []
# features = ["CET", "KSS", "AEXNotify"]
# enclave_product_id = 0
# enclave_security_version = 0
## Platforms that are not up to date pass if all advisories that say why are listed here.
# allowed_advisories = ["INTEL-SA-00615"]
## The library dcap-qvl, a second verifier, has to say the same as the first. [tdx] has this key too.
# second_opinion = true

## Intel TDX
# [tdx]
## MRTD; 96 hex digits.
# hash = ["000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001"]
# allowed_statuses = ["UpToDate", "SWHardeningNeeded"]

## Arm CCA. Who may be believed at all, the file of --roots says.
# [cca]
## Realm initial measurements; 64, 96 or 128 hex digits.
# hash = ["0000000000000000000000000000000000000000000000000000000000000001"]
# lifecycle = ["secured"]

## Collateral: revocation lists, TCB info, QE identities, VCEKs. The service asks the vendors when evidence needs it.
# [collateral]
## Ask nobody: what requests bring, and what is in the state directory, has to do.
# offline = true
## How long after its end collateral may still be used while its vendor cannot be reached; "0" is not at all, "30d" the
## most. Certificates that were issued on it say so.
# stale = "7d"
## Ask caches of your own instead of the vendors (for Intel: a PCCS), and trust these certificates for TLS with them.
# amd = "https://kds.example.com"
# intel = "https://pccs.example.com:8081"
# ca = "/etc/steward/caches.pem"

## Workloads. With any of them, evidence must name one (SNP HOST_DATA, TDX MRCONFIGID, SGX CONFIGID, CCA
## personalization value), and its certificate gets these names. Without, any workload passes.
## Accepted is one whose digest is listed, whose package is (with whatever arguments; the request brings the launch
## descriptor), or for which one of these keys has signed a statement: `donjon steward endorse`. A package may trust
## only the `roots` that are listed here, SHA-256 of the files in [roots] of Enarx.toml.
# [[workload]]
# title = "shop"
# digest = ["0000000000000000000000000000000000000000000000000000000000000001"]
# package = ["0000000000000000000000000000000000000000000000000000000000000002"]
# roots = ["0000000000000000000000000000000000000000000000000000000000000003"]
# signers = ["""
# -----BEGIN PUBLIC KEY-----
# MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
# -----END PUBLIC KEY-----
# """]
# names = ["shop.example.com"]
'''
