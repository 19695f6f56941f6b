"""Products of a few rows with a large matrix that stays as it is: a step of drawing.

MKL and oneDNN take two to three times as long for them as reading the matrix does, whatever the order in which it lies
(docs/performance.md). The kernel below reads it once, from one end to the other, and holds the sums in registers.

It is compiled once, by the machine's C++ compiler in a second or two, and lies in the user's cache from then on.
(inductor could compile it, but takes seconds to be imported, more than a drawing takes.) Where there is no compiler,
the product is oneDNN's.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from hyperrun.hypernets.hyperlstm_fast.blocks import RepeatedProduct
from hyperrun.hypernets.hyperlstm_fast.compiled_phases import why_not_compiled
from hyperrun.paths import cache_folder

log = logging.getLogger(__name__)

ROWS, LANES = 8, 8
SMALLEST = 2**20
"""Numbers of a matrix below which it lies in a nearer cache, and compiling is not worth it."""

PROCESSOR = {"AVX2": ("-mavx2", "-mfma"), "AVX512": ("-mavx2", "-mfma")}
"""What torch says of the processor -> what the compiler may use of it; not more, as a cache may be on a network."""

SOURCE = f"""
#include <algorithm>
#include <cstdint>
#include <vector>

constexpr int64_t ROWS = {ROWS}, LANES = {LANES}, AHEAD = 512;
constexpr int64_t PART = 64;  // products summed up apart from the others, so that rounding errors grow less
typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4)));

// out [rows, width] = x [rows, depth] times a matrix [depth, width] in panels [width / LANES, depth, LANES]
extern "C" void few_rows(const float* x, const float* panels, float* out, const int64_t rows, const int64_t depth,
                         const int64_t width, const int64_t threads) {{
    std::vector<float> turned(depth * ROWS);  // of rows that are not there zeros
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t k = 0; k < depth; ++k) turned[k * ROWS + row] = x[row * depth + k];
    const float* factors = turned.data();
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t column = 0; column < width; column += LANES) {{
        const float* panel = panels + column * depth;
        Lanes sums[ROWS] = {{}};
        for (int64_t first = 0; first < depth; first += PART) {{
            const int64_t last = std::min(first + PART, depth);
            Lanes parts[ROWS] = {{}};
            for (int64_t k = first; k < last; ++k) {{
                __builtin_prefetch(panel + k * LANES + AHEAD);
                const Lanes weights = *reinterpret_cast<const Lanes*>(panel + k * LANES);
                for (int64_t row = 0; row < ROWS; ++row) parts[row] += factors[k * ROWS + row] * weights;
            }}
            for (int64_t row = 0; row < ROWS; ++row) sums[row] += parts[row];
        }}
        for (int64_t row = 0; row < rows; ++row) *reinterpret_cast<Lanes*>(out + row * width + column) = sums[row];
    }}
}}
"""


class FewRows:
    """x @ weight for one float32 weight [K, N] on a CPU and many x [B, K], B at most ROWS."""

    def __init__(self, weight: Tensor, kernel: Callable[..., None]) -> None:
        depth, self.width = weight.shape
        self.kernel = kernel
        filled_up = F.pad(weight, (0, -self.width % LANES))
        self.panels = filled_up.view(depth, -1, LANES).transpose(0, 1).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        count, depth, _ = self.panels.shape
        out = x.new_empty(len(x), count * LANES)
        x = x.contiguous()
        self.kernel(
            *(part.data_ptr() for part in (x, self.panels, out)), len(x), depth, count * LANES, torch.get_num_threads()
        )
        return out[:, : self.width]


def held_product(weight: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """Return x [rows, K] -> x @ weight [K, N], for a weight that does not change."""
    fits = weight.device.type == "cpu" and weight.dtype == torch.float32 and rows <= ROWS
    kernel = compiled_kernel() if fits and weight.numel() >= SMALLEST and why_not_compiled() is None else None
    return RepeatedProduct(weight, rows) if kernel is None else FewRows(weight, kernel)


@cache
def compiled_kernel() -> Callable[..., None] | None:
    """Return the kernel, a function of SOURCE's arguments, or None where it cannot be compiled."""
    try:
        function = ctypes.CDLL(str(library())).few_rows
    except (OSError, subprocess.SubprocessError) as error:
        log.info("products of a few rows are oneDNN's: %s", error)
        return None
    function.argtypes, function.restype = [ctypes.c_void_p] * 3 + [ctypes.c_int64] * 4, None
    return function


def library() -> Path:
    """Return the compiled SOURCE, compiling it if that has not been done for such a processor.

    Raises:
        OSError: there is no compiler, or no folder of the user's own to write to.
        SubprocessError: it does not compile.
    """
    compiler = shutil.which(os.environ.get("CXX") or "c++")
    if compiler is None:
        raise FileNotFoundError("there is no C++ compiler")
    flags = ["-O3", "-shared", "-fPIC", "-fopenmp", *PROCESSOR.get(torch.backends.cpu.get_cpu_capability(), ())]
    key = hashlib.sha256("\n".join([compiler, platform.machine(), *flags, SOURCE]).encode()).hexdigest()[:16]
    folder = cache_folder() / "hyperrun-kernels"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's")  # what lies in it is run
    file = folder / f"few_rows-{key}.so"
    if not file.exists():
        part = folder / f"{file.name}.{os.getpid()}.part"
        try:
            command = [compiler, "-x", "c++", *flags, "-o", str(part), "-"]
            subprocess.run(command, input=SOURCE, text=True, capture_output=True, check=True, timeout=60)
            os.replace(part, file)
        finally:
            part.unlink(missing_ok=True)
    return file
