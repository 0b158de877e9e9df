"""The sallyport: the one narrow channel between the untrusted host and the Keep in a virtual machine.

    frames    what is said, and its bytes
    machine   HostMachine, GuestMachine: who may say what when, within which limits; no I/O
    io        moves bytes between a descriptor and a machine

docs/sallyport.md has the protocol for those who would write the other side.
"""
