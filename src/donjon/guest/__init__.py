"""The inside of a Keep's virtual machine: process 1, the agent that speaks with the host, and what it starts.

    init       process 1: makes a system of a kernel, becomes the agent, switches the power off
    agent      the sallyport's end, and everything that is allowed to touch a device
    workload   what the host hands over, checked before it is parsed
    keep       the process that runs the workload, as `donjon run` does on a host, and makers of its keys
    confine    what such a process gives up first
    enclosed   what it has of the world instead of a host's
    requests   what it may ask the agent for: connections, an address, an identity
    broker     how these are answered
    evidence   the hardware's, by processes that do this one thing

Nothing of this is imported on a host, except by tests.
"""
