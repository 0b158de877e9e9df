"""The attestation service: evidence in, certificate out.

    request     a certificate request, read strictly                          no I/O
    nonce       a freshness value that needs no memory, and its binding       no I/O
    policy      what evidence is accepted, and what it gets                   no I/O
    endorsement who vouches for a workload, by signed statements              no I/O
    procedure   request, evidence, policy -> decision with every check        no I/O
    files       evidence, collateral and roots as files, for `steward judge`
    fetching    asks vendors over HTTP                                        network
    depot       collateral: what is at hand, what is missing, what is old     network, files
    record      every decision, hash-chained: SQLite or PostgreSQL            files, database
    service     judges, issues, records, answers
    app, serve  the same over HTTP, as a process

`procedure.decide` is the whole judgement; everything else brings things to it or carries its answer away.
"""
