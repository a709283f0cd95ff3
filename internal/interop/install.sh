#!/bin/sh
# Installs the clients that the tests of this directory run: crane, regctl, oras
# and cosign, at the versions below, into a directory; skopeo, podman, buildah and
# nginx as Debian packages, where they are missing, for which it has to be run by root.
# Cosign takes some minutes to build; it is not a failure if that cannot be done.
#
# usage: install.sh [directory]
#
# The directory is interop in the user's cache unless it is given. Its name is
# printed at the end, for PATH. What is there already is left alone.
set -eu
. "$(dirname "$0")/../servers/again.sh"

crane=v0.22.1
regctl=v0.11.7
oras=v1.3.3
cosign=v2.6.5

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/interop}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

# Away from any module, whose go.mod and go.sum the go command would heed.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
export CGO_ENABLED=0 GOWORK=off

# has tells whether a client in the directory is of a version.
has() {
	client=$1 version=$2
	[ -x "$dir/$client" ] && "$dir/$client" version 2>/dev/null | grep -qE "(^|[^0-9.])${version#v}($|[^0-9.])"
}

has crane $crane ||
	again env GOBIN="$dir" go install github.com/google/go-containerregistry/cmd/crane@$crane
has regctl $regctl ||
	again env GOBIN="$dir" go install github.com/regclient/regclient/cmd/regctl@$regctl
# For oras, go install would ask for the list of versions first, which not every
# module proxy has. To download one version takes no list. The module cache is
# read-only, hence the copy.
if ! has oras $oras; then
	again go mod download -json oras.land/oras@$oras >oras.json || {
		cat oras.json >&2
		exit 1
	}
	cp -R "$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p' oras.json)" oras
	chmod -R u+w oras
	(cd oras && again go build -o "$dir/oras" ./cmd/oras)
fi

has cosign $cosign ||
	again env GOBIN="$dir" go install github.com/sigstore/cosign/v2/cmd/cosign@$cosign ||
	echo "cosign was not built: signatures are NOT TESTED" >&2

packages=
for package in skopeo podman buildah nginx; do
	command -v $package >/dev/null || packages="$packages $package"
done
if [ -n "$packages" ]; then
	debian $packages # word splitting is meant
fi

echo "$dir"
