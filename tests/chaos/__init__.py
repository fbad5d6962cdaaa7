"""Breaking real nodes on purpose: processes, network, disks, clocks and clients, by a seed, and the verdict on it."""
