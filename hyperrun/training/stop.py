"""Asking a run to stop: SIGTERM (a scheduler's preemption), SIGUSR1 and SIGUSR2 (its warnings) and Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """Within the block, the first signal asks the loop to finish its step and save; a second Ctrl-C stops at once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}
        self._pid = os.getpid()

    @property
    def requested(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if error is None and self.signal is not None:  # it came when the run was as good as finished: a sweep heeds it
            outer = self._before[self.signal]
            if callable(outer) and outer is not signal.default_int_handler:
                signal.raise_signal(self.signal)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # a data worker, which inherited this handler: the main process will stop it
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        first = self.signal is None
        if first or number == signal.SIGUSR2:  # on which a Slurm job is put back into the queue, SIGTERM or not
            self.signal = signal.Signals(number)
        if first:
            self.say(f"{signal.Signals(number).name}: finishing this step, then saving (Ctrl-C again stops at once)")
