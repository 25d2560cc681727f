"""The batch script as Slurm would run it, on this machine: `commands` stands in for Slurm's own."""
