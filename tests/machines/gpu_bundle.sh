#!/usr/bin/env bash
# Packs all that `bench gpu` needs on a GPU machine where nothing can be installed: code, wheels and images.
#
#   tests/machines/gpu_bundle.sh OUT.tar [FOLDER_OF_IMAGES]
#
# The code is the working tree, with files that git does not ignore. The packages are those that such a machine lacks
# (see bench/gpu/command.py), for Python 3.12 on x86-64 Linux. Without a folder of Parquet files random images are trained on.
#
#   tar xf OUT.tar && cd flexres_tune_gpu/code
#   PYTHONPATH=../site python3 -m flexres_tune.bench gpu --dataset parquet:../images
set -euo pipefail
out=$(realpath "$1")
images=${2:+$(realpath "$2")}
root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=$work/flexres_tune_gpu
mkdir -p "$bundle/code" "$bundle/site"
(cd "$root" && git ls-files -z -co --exclude-standard -- flexres_tune sweeps pyproject.toml | xargs -0 cp --parents -t "$bundle/code")
platforms=()
for name in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do
  platforms+=(--platform "${name}_x86_64")
done
python3 -m pip install --quiet --no-deps --no-compile --only-binary=:all: --python-version 3.12 --implementation cp \
  "${platforms[@]}" --target "$bundle/site" annotated-types "$(python3 - <<'PYTHON'
# pydantic works with one version of its core only
import re, importlib.metadata
core = next(line for line in importlib.metadata.requires("pydantic") if line.startswith("pydantic-core"))
print(re.split(r"[;\s]", core)[0])
PYTHON
)" "pydantic==$(python3 -c 'import pydantic; print(pydantic.VERSION)')" typing-inspection ruamel.yaml
[ -z "$images" ] || cp -r "$images" "$bundle/images"
tar -C "$work" -cf "$out" flexres_tune_gpu
size=$(stat -c %s "$out")
echo "$out: $((size / 1024)) KiB"
[ "$size" -le $((60 * 1024 * 1024)) ] || { echo "must be at most 60 MiB; give fewer images" >&2; exit 1; }
