# Sourced by quickstart, test and .ci/run, which set $repo. POSIX shell.
#
# `prepare_env` (or `prepare_env test`, with the test extra) leaves in $repo/.venv an environment with hyperrun and the
# versions of constraints.txt, and its interpreter's path in $python. What it did is noted in .venv/hyperrun-ready*, so
# that the next call only compares that note.

python=$repo/.venv/bin/python

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "$(basename "$0"): $*"
    exit 1
}

prepare_env() {
    extra=${1:-}
    if is_ready; then return; fi
    # One installation at a time: a second call waits here and then finds the work done. (macOS has no flock.)
    exec 9<"$repo/pyproject.toml"
    if command -v flock >/dev/null && ! flock -n 9; then
        say "waiting for another installation into $repo/.venv"
        flock 9 || true
    fi
    if ! is_ready; then install; fi
    exec 9<&-
}

is_ready() { # everything that decides what .venv has to hold is as it was when the note was written
    wanted=$("$python" -c 'import sys; print(*sys.version_info[:3])' 2>/dev/null) || return 1
    wanted="$wanted $repo $(cat "$repo/pyproject.toml" "$repo/constraints.txt" | cksum)"
    [ "$wanted" = "$(cat "$repo/.venv/hyperrun-ready${extra:+-$extra}" 2>/dev/null)" ]
}

install() {
    if ! "$python" -c '' 2>/dev/null; then # none yet, or half made, or the Python it was made from is gone
        find_python
        say "making $repo/.venv with $base"
        if has_uv; then
            uv venv --quiet --clear --python "$base" "$repo/.venv"
        else
            "$base" -m venv --clear "$repo/.venv"
        fi
    elif ! supported "$python"; then
        fail "$repo/.venv holds $("$python" -V), hyperrun needs 3.11 to 3.13: remove that folder and run this again"
    fi
    say "installing into $repo/.venv (the first time: several GB, some minutes)"
    rm -f "$repo/.venv/hyperrun-ready" "$repo/.venv/hyperrun-ready-test"
    forget_damaged_packages
    (
        cd "$repo"
        if has_uv; then
            uv pip install --python "$python" -c constraints.txt -e ".${extra:+[$extra]}"
        else
            "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip
            "$python" -m pip install --disable-pip-version-check -c constraints.txt -e ".${extra:+[$extra]}"
        fi
    ) >&2
    is_ready || true # sets $wanted, now that there is an interpreter to ask
    printf '%s\n' "$wanted" >"$repo/.venv/hyperrun-ready"
    if [ -n "$extra" ]; then printf '%s\n' "$wanted" >"$repo/.venv/hyperrun-ready-$extra"; fi
}

has_uv() { command -v uv >/dev/null; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

find_python() { # sets $base
    reason="found $(python3 -V 2>/dev/null || echo 'no python3')"
    for base in python3 python3.13 python3.12 python3.11 python; do
        supported "$base" || continue
        if has_uv || "$base" -c 'import ensurepip' 2>/dev/null; then return; fi
        reason="$base has no ensurepip (Debian, Ubuntu: apt-get install python3-venv)"
    done
    fail "needs Python 3.11, 3.12 or 3.13 on the PATH: $reason"
}

forget_damaged_packages() { # an interrupted installation leaves packages that look installed but lack files
    "$python" - "$repo/constraints.txt" <<'END'
import csv, pathlib, re, shutil, sys, sysconfig

def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()

constraints = pathlib.Path(sys.argv[1]).read_text()
ours = {"hyperrun", "pip", *(normal(name) for name in re.findall(r"^([\w.-]+)==", constraints, re.M))}
site = pathlib.Path(sysconfig.get_path("purelib"))

def whole(row):
    path = site / row[0]
    return row[0].endswith(".pyc") or path.exists() and (not row[2] or path.stat().st_size == int(row[2]))

for info in site.glob("*.dist-info"):
    if normal(info.name.split("-")[0]) in ours:
        record = info / "RECORD"
        rows = list(csv.reader(record.open())) if record.exists() else []
        if not rows or not all(map(whole, rows)):
            print("installing again:", info.name, file=sys.stderr)
            shutil.rmtree(info)
END
}
