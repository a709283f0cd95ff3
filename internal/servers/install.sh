#!/bin/sh
# Installs the servers that the tests of buckets run, versitygw and Azurite, at
# the versions below, into a directory. Azurite needs npm, which is installed as a Debian
# package where it is missing; for that this has to be run by root.
#
# usage: install.sh [directory]
#
# The directory is ocibucket in the user's cache unless it is given. Its name is
# printed at the end, for PATH. What is there already is left alone.
set -eu
. "$(dirname "$0")/again.sh"

versitygw=v1.8.0
azurite=3.37.0

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/ocibucket}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

# Away from any module, whose go.mod and go.sum the go command would heed.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
export CGO_ENABLED=0 GOWORK=off

go version -m "$dir/versitygw" 2>/dev/null | grep -q "versitygw[[:space:]]$versitygw\([[:space:]]\|$\)" ||
	again env GOBIN="$dir" go install github.com/versity/versitygw/cmd/versitygw@$versitygw

command -v npm >/dev/null || debian nodejs npm ca-certificates
package=$dir/azurite-$azurite/node_modules
if [ ! -x "$package/.bin/azurite-blob" ]; then
	again npm install --loglevel=error --no-audit --no-fund --prefix "$dir/azurite-$azurite" azurite@$azurite >&2
fi
ln -sfn "azurite-$azurite/node_modules/.bin/azurite-blob" "$dir/azurite-blob"

echo "$dir"
