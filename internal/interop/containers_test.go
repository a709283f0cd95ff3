package interop

import (
	"fmt"
	"path/filepath"
	"testing"
)

// newContainersClient returns a skopeo, podman or buildah that shares nothing
// with those of the machine: what it stores and locks is below its home. (Skopeo
// notes where it saw blobs in a file of the machine, when root runs it. What
// other runs noted there makes it try mounts that cannot succeed, and is
// otherwise harmless.)
func newContainersClient(t *testing.T, name string) *client {
	c := newClient(t, name)
	in := func(name string) string { return filepath.Join(c.home, name) }
	c.writeFile(t, "registries.conf", nil)
	c.writeFile(t, "storage.conf", fmt.Appendf(nil, `[storage]
driver = "vfs"
graphroot = %q
runroot = %q
`, in("storage"), in("run")))
	c.writeFile(t, "containers.conf", fmt.Appendf(nil, `[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
tmp_dir = %q
`, in("libpod")))
	return c
}
