#!/bin/sh
# Puts Fashion-MNIST into mobilenas's cache from the Debian package dataset-fashion-mnist, without root.
# Never fails: where this does not work, the search looks elsewhere and then downloads the data set itself.
set -u

caches="${XDG_CACHE_HOME:-${HOME:-}/.cache}"
cache="${MOBILENAS_CACHE_DIR:-$caches/mobilenas}/fashion-mnist"
package=dataset-fashion-mnist
installed=/usr/share/datasets/fashion-mnist
names="train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte"

say() {
    echo "fashion-mnist: $1"
}

give_up() {
    say "$1; the search will try to download it when it is first used"
    exit 0
}

complete() {
    for name in $names; do
        [ -f "$1/$name.gz" ] || [ -f "$1/$name" ] || return 1
    done
}

for folder in "$cache" "$installed"; do
    if complete "$folder"; then
        say "found in $folder"
        exit 0
    fi
done

command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || give_up "no apt-get and dpkg-deb here"
[ -n "$(apt-cache show "$package" 2>/dev/null)" ] || give_up "package $package is not in the package lists (apt-get update fetches them)"

work=$(mktemp -d) || give_up "no temporary folder"
trap 'rm -rf "$work"' EXIT
trap 'exit 0' HUP INT TERM

# Root would be warned that the user _apt cannot write here; naming root as that user says it is meant.
(cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$package") >/dev/null 2>&1 || give_up "apt-get could not download $package"
dpkg-deb -x "$work/$package"_*.deb "$work/tree" 2>/dev/null || give_up "$package could not be unpacked"
complete "$work/tree$installed" || give_up "$package does not hold the expected files"

mkdir -p "$cache" 2>/dev/null || give_up "$cache cannot be created"
for file in "$work/tree$installed"/*-ubyte*; do
    # Renamed in one step, so that nobody reads half a file.
    part="$cache/.$(basename "$file").$$"
    if ! { cp "$file" "$part" && mv "$part" "$cache/$(basename "$file")"; } 2>/dev/null; then
        rm -f "$part"
        give_up "$cache cannot be written"
    fi
done
say "fetched into $cache"
