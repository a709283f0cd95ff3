# For scripts that install programs: what needs the network may fail once, and is tried again.

# again runs a command, up to four times.
again() {
	for pause in 5 15 45; do
		"$@" && return
		echo "$* failed, and is tried again in $pause seconds" >&2
		sleep "$pause"
	done
	"$@"
}

# debian installs Debian packages, for which the script has to be run by root.
debian() {
	again apt-get -qq update >&2
	again env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" >&2
}
