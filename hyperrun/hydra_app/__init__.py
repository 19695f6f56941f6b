"""Everything around Hydra: composing, explaining errors, planning, sweeps and the launchers that run their jobs.

app.py hands a command line to Hydra; compose.py makes the config of a run; replaced.py lists all that is not Hydra's
public interface.
"""

from hyperrun.hydra_app.replaced import check_names

check_names("hydra-core", "omegaconf")  # here, before a module of this folder imports one of them
