"""hyperrun: an experiment runner for hypernetworks. `hyperrun --help` is the way in; as a library:

from hyperrun import HyperLSTM, hypernetize, load_run, materialize
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hyperrun.hypernets import hypernetize, materialize
    from hyperrun.hypernets.hyper_lstm import HyperLSTM
    from hyperrun.load import load_run

__all__ = ["HyperLSTM", "__version__", "hypernetize", "load_run", "materialize"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: `hyperrun --help` needs no torch."""
    if name in ("hypernetize", "materialize"):
        import hyperrun.hypernets as found
    elif name == "HyperLSTM":
        import hyperrun.hypernets.hyper_lstm as found
    elif name == "load_run":
        import hyperrun.load as found
    else:
        raise AttributeError(f"module 'hyperrun' has no attribute '{name}'")
    return getattr(found, name)
