// Package ocicerts connects to registries with the certificates that Docker, Podman and
// others keep for them: the authorities that a registry's own certificate may come from, and
// certificates by which the client makes itself known.
//
// They are in directories of the form
//
//	/etc/docker/certs.d/
//		registry.example:5000/
//			ca.crt          an authority, beside those of the system
//			client.cert     a certificate of the client, and
//			client.key      its key
//
// with any number of files of each kind (see containers-certs.d(5)).
package ocicerts
