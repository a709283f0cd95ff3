#!/bin/sh
# Installs what the tests of this directory run: Chromium as a Debian package, for which it
# has to be run by root, and axe-core at the version below, from npm, into a directory. Npm
# is installed as a Debian package, too.
#
# usage: install.sh [directory]
#
# The directory is browser in the user's cache unless it is given. The name of
# the script that the tests want in OCI_BROWSER_AXE is printed at the end. What is there
# already is left alone.
set -eu
. "$(dirname "$0")/../servers/again.sh"

axe=4.14.1

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/browser}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

packages=
command -v chromium >/dev/null || packages="chromium fonts-dejavu-core"
command -v npm >/dev/null || packages="$packages nodejs npm ca-certificates"
if [ -n "$packages" ]; then
	debian $packages # word splitting is meant
fi

script=$dir/axe-core-$axe/node_modules/axe-core/axe.min.js
if [ ! -f "$script" ]; then
	again npm install --loglevel=error --no-audit --no-fund --ignore-scripts --prefix "$dir/axe-core-$axe" axe-core@$axe >&2
fi

echo "$script"
