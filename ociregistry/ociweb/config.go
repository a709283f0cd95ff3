package ociweb

import (
	"errors"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// maxConfig is the size in bytes of the largest configuration that is read.
const maxConfig = 1 << 20

// config is the configuration of an image (image-spec, "Image Configuration").
type config struct {
	text []byte

	Created      string `json:"created"`
	Author       string `json:"author"`
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant"`
	Config       struct {
		User         string            `json:"User"`
		ExposedPorts map[string]any    `json:"ExposedPorts"`
		Env          []string          `json:"Env"`
		Entrypoint   []string          `json:"Entrypoint"`
		Cmd          []string          `json:"Cmd"`
		Volumes      map[string]any    `json:"Volumes"`
		WorkingDir   string            `json:"WorkingDir"`
		Labels       map[string]string `json:"Labels"`
		StopSignal   string            `json:"StopSignal"`
	} `json:"config"`
	History []step `json:"history"`
}

// step is an element of the history of an image.
type step struct {
	CreatedBy  string `json:"created_by"`
	Comment    string `json:"comment"`
	EmptyLayer bool   `json:"empty_layer"`
}

// readConfig reads the configuration of d. If it cannot be read, the problem says why: that is
// no reason not to show the rest.
func (x *exchange) readConfig(d *document) (c config, problem string) {
	desc := d.Config
	if desc == nil || !desc.linkable() {
		return config{}, "The manifest names no configuration."
	}
	if desc.Size > maxConfig {
		return config{}, "The configuration has " + size(desc.Size) + ", and is not read: pages read up to " + size(maxConfig) + "."
	}
	rd, err := x.registry.GetBlob(x.ctx, x.repo, desc.Digest)
	tooLarge := false
	if err == nil {
		c.text, tooLarge, err = readBounded(rd, rd.Descriptor().Size, maxConfig)
	}
	switch {
	case errors.Is(err, ociregistry.ErrBlobUnknown):
		return config{}, "The configuration is missing in this repository."
	case err != nil:
		x.logFailure(err, 0)
		return config{}, "The configuration cannot be read."
	case tooLarge:
		return config{}, "The configuration is larger than the manifest says, and is not read."
	}
	decode(c.text, &c)
	return c, ""
}

func (c *config) platform() string {
	return platformName(ocispec.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant})
}

// created returns when an image was created, as its configuration or its annotations say, or
// zero.
func (d *document) created(c config) time.Time {
	if t := manifest.ParseCreated(c.Created); !t.IsZero() {
		return t
	}
	return manifest.ParseCreated(d.Annotations[ocispec.AnnotationCreated])
}
