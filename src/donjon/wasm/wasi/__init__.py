"""The WebAssembly System Interface: `p1/` holds the functions of preview 1, `descriptors/` what a descriptor can be."""
