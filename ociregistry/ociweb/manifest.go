package ociweb

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Bounds for what the page of one manifest shows.
const (
	maxLayers   = 500 // layers, and steps of the history
	maxPairs    = 200 // labels, annotations
	maxChildren = 200 // manifests of an index

	// maxChildrenRead is the maximum number of manifests of an index that are read for their
	// sizes.
	maxChildrenRead = 32
)

// manifestPage is an image, an index or another artifact.
type manifestPage struct {
	Repo, Ref   string
	Tag         string // empty on the page of a digest
	Type        string
	Digest      string
	DigestURL   string
	MediaType   string
	Size        string // of what a client pulls
	Own         string // the size of the manifest
	Platform    string
	Created     moment
	Author      string
	Subject     string
	SubjectURL  string // may be empty
	Commands    []command
	JSON        string // a URL
	Compare     string // the URL of the form's action
	Children    []child
	HasSizes    bool // of children
	Layers      layerList
	Run         []pair
	Labels      []pair
	Annotations []pair
	Referrers   []referrer
	Notes       []string // what is not shown, and why
	MoreOf      more
}

// more has what follows what is shown of long lists, or "".
type more struct{ Children, Labels, Annotations, Referrers string }

// pair is a name with a value.
type pair struct{ Name, Value string }

// child is a manifest in an index.
type child struct {
	Platform string
	Type     string // what it is, if it is no image
	Short    string
	URL      string // may be empty
	Size     string // of what a client pulls; may be empty
}

func (x *exchange) manifest() (page, error) {
	d, err := x.readManifest(x.ref)
	if err != nil {
		return page{}, err
	}
	p := &manifestPage{
		Repo: x.repo, Ref: x.ref,
		Type:      typeName(d.artifactType(), d.desc.MediaType),
		Digest:    string(d.desc.Digest),
		DigestURL: x.manifestURL(string(d.desc.Digest)),
		MediaType: clean(d.desc.MediaType),
		Own:       size(d.desc.Size),
		JSON:      x.url(target{jsonKind, x.repo, x.ref}),
		Compare:   x.url(target{compareKind, x.repo, ""}),
	}
	if !call.IsDigest(x.ref) {
		p.Tag = x.ref
	}
	p.Annotations, p.MoreOf.Annotations = pairs(d.Annotations)
	x.addSubject(p, d.Subject)
	p.Created = x.moment(d.created(config{}))
	switch {
	case d.tooLarge:
		p.Notes = append(p.Notes, "The manifest has "+size(d.desc.Size)+", and is not read: pages read up to "+size(x.opts.MaxManifestSize)+".")
	case d.isIndex():
		p.Type = cmp.Or(p.Type, "Index")
		x.addChildren(p, d)
	default:
		x.addContent(p, d)
	}
	p.Commands = x.commands(d)
	x.addReferrers(p, d.desc.Digest)
	return page{"manifest", reference(x.repo, cmp.Or(p.Tag, short(d.desc.Digest))), p}, nil
}

// addSubject adds the subject of a manifest, with a link if it is in the repository: it need not
// be.
func (x *exchange) addSubject(p *manifestPage, subject *descriptor) {
	if subject == nil || !subject.linkable() {
		return
	}
	p.Subject = string(subject.Digest)
	if _, err := x.registry.ResolveManifest(x.ctx, x.repo, subject.Digest); err == nil {
		p.SubjectURL = x.manifestURL(p.Subject)
	}
}

// addContent adds the configuration and the layers of an image or another artifact.
func (x *exchange) addContent(p *manifestPage, d *document) {
	if d.Config == nil && d.layers() == nil {
		return // of a media type that nobody here knows
	}
	var c config
	if d.isImage() {
		var problem string
		if c, problem = x.readConfig(d); problem != "" {
			p.Notes = append(p.Notes, problem)
		}
		p.Type, p.Platform, p.Author = imageType, c.platform(), clean(c.Author)
		p.Created = x.moment(d.created(c))
		p.Run = c.run()
		p.Labels, p.MoreOf.Labels = pairs(c.Config.Labels)
	}
	p.Size = size(d.pullSize())
	p.Layers = newLayerList(d.layers(), c.History)
}

// addChildren adds the manifests of an index.
func (x *exchange) addChildren(p *manifestPage, d *document) {
	shown := d.Manifests[:min(len(d.Manifests), maxChildren)]
	if n := len(d.Manifests) - len(shown); n > 0 {
		p.MoreOf.Children = "Another " + count(n, "manifest is", "manifests are") + " not shown."
	}
	p.Children = make([]child, len(shown))
	for i := range shown {
		p.Children[i] = x.child(&shown[i])
	}
	if x.opts.Remote {
		return
	}
	p.HasSizes = true
	parallel.Do(summaryConcurrency, min(len(shown), maxChildrenRead), func(i int) error {
		m := &shown[i]
		if x.ctx.Err() != nil || !m.linkable() {
			return nil
		}
		switch d, err := x.readManifest(string(m.Digest)); {
		case errors.Is(err, ociregistry.ErrManifestUnknown):
			p.Children[i].Size, p.Children[i].URL = "missing", ""
		case err == nil && !d.tooLarge && !d.isIndex():
			p.Children[i].Size = size(d.pullSize())
		}
		return nil
	})
}

func (x *exchange) child(m *descriptor) child {
	c := child{Platform: m.platform(), Short: short(m.Digest)}
	if m.linkable() {
		c.URL = x.manifestURL(string(m.Digest))
	}
	switch {
	case m.Annotations[attests] != "":
		c.Platform, c.Type = "", "Attestation"
	case manifest.IsIndex(m.MediaType):
		c.Type = "Index"
	case m.ArtifactType != "":
		c.Type = typeName(m.ArtifactType, m.MediaType)
	case c.Platform == "":
		c.Type = typeName("", m.MediaType)
	}
	return c
}

// run returns what a container of the image does.
func (c *config) run() []pair {
	o := &c.Config
	all := []pair{
		{"Entrypoint", words(o.Entrypoint)}, {"Command", words(o.Cmd)},
		{"Working directory", o.WorkingDir}, {"User", o.User},
		{"Ports", strings.Join(keys(o.ExposedPorts), " ")}, {"Volumes", strings.Join(keys(o.Volumes), " ")},
		{"Stop signal", o.StopSignal},
	}
	for _, e := range o.Env[:min(len(o.Env), maxPairs)] {
		all = append(all, pair{"Environment", e})
	}
	shown := all[:0]
	for _, p := range all {
		if p.Value != "" {
			shown = append(shown, pair{p.Name, clean(p.Value)})
		}
	}
	return shown
}

func keys(m map[string]any) []string {
	names := slices.Sorted(maps.Keys(m))
	return names[:min(len(names), maxPairs)]
}

// words returns the words of a command, those with spaces in quotation marks.
func words(args []string) string {
	var b strings.Builder
	for _, a := range args {
		if b.Len() > maxText {
			break
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if a == "" || strings.ContainsAny(a, " \t\n\"'") {
			a = `"` + strings.ReplaceAll(a, `"`, `\"`) + `"`
		}
		b.WriteString(a)
	}
	return b.String()
}

// pairs returns labels or annotations in the order of their names, and what to say of others.
func pairs(m map[string]string) (shown []pair, more string) {
	names := slices.Sorted(maps.Keys(m))
	if n := len(names) - maxPairs; n > 0 {
		names, more = names[:maxPairs], count(n, "more is", "more are")+" not shown."
	}
	for _, name := range names {
		shown = append(shown, pair{clean(name), clean(m[name])})
	}
	return shown, more
}

const imageType = "Image"

// types has short names of artifact types, by what their media types contain.
var types = []struct{ part, name string }{
	{"notary.signature", "Signature"}, {"cosign", "Signature"}, {"simplesigning", "Signature"},
	{"sigstore.bundle", "Sigstore bundle"},
	{"spdx", "SBOM"}, {"cyclonedx", "SBOM"}, {"syft", "SBOM"}, {"sbom", "SBOM"},
	{"in-toto", "Attestation"}, {"slsa", "Provenance"},
	{"helm", "Helm chart"}, {"wasm", "WebAssembly"},
}

// typeName returns what an artifact is, or its type if nothing shorter is known. It returns ""
// for an artifact without a type whose media type does not say more.
func typeName(artifactType, mediaType string) string {
	if manifest.IsImageConfig(artifactType) {
		return imageType
	}
	for _, t := range types {
		if strings.Contains(strings.ToLower(artifactType), t.part) {
			return t.name
		}
	}
	if _, known := manifest.Known(mediaType); known {
		return clip(clean(artifactType), 80)
	}
	return clip(clean(cmp.Or(artifactType, mediaType)), 80)
}
