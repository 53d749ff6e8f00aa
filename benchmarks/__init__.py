"""Measures netmesh_trio beside what else there is: ``python -m benchmarks``, see docs/benchmarks.rst.

::

    __main__      the command line
    suite         runs measurements: every subject in turn, and again
    process       one end of a subject, in a process of its own
    places        where the ends live: loopback, over a relay, in network namespaces, behind NATs
    record        what came out, as values and as JSON
    table, chart  how it is shown
    measurements/ what is measured: one module each, the same for all subjects
    subjects/     what is measured: one module each, the same for all measurements
    subject       what a subject has to offer; streams, loops: what several of them share
    child         the program of one end
"""
