"""Everything around Hydra: composing, explaining errors, planning, sweeps and the launchers that run their jobs."""
