"""What `rewind bench` is made of. It needs the extra `bench`; nothing else of the client imports it.

    plan.py                       what is asked for: the options of each workload
    commands.py                   the subcommands, from options to what is printed
    workloads.py  failover.py     the workloads, run by run; trickle.py is what feels a lost leader
    fleet.py  tasks.py  talking.py  worker.py    client processes, what they are told and tell
    driver.py                     how a client process begins operations and times them; latencies.py
    appending.py  one_by_one.py  reading.py  subscribing.py  mixing.py    what a client process does; sightings.py
    machine.py  nodes.py          what processes use, and what else runs here
    figures.py  report.py  chart.py                        what comes out

The rule: what was not acknowledged is not counted, and what was counted can be told apart by run and by process.
"""
