package ociref

import (
	"fmt"
	"strings"
)

const (
	// dockerHost is the host in normalized references to Docker Hub. It is only a name:
	// the API is at registry-1.docker.io.
	dockerHost = "docker.io"

	// dockerIndexHost is another name of dockerHost, from the time of Docker's first
	// registry protocol.
	dockerIndexHost = "index.docker.io"

	// dockerOfficial is the prefix of repositories on Docker Hub whose short names have
	// only one element.
	dockerOfficial = "library/"

	dockerDefaultTag = "latest"
)

// ParseDocker parses a reference as the docker command does, which allows
// short forms, and returns it in full:
//
//	ubuntu                    docker.io/library/ubuntu:latest
//	user/app:v1               docker.io/user/app:v1
//	docker.io/ubuntu          docker.io/library/ubuntu:latest
//	index.docker.io/user/app  docker.io/user/app:latest
//	localhost/foo             localhost/foo:latest
//	localhost:5000/foo        localhost:5000/foo:latest
//	ubuntu@sha256:...         docker.io/library/ubuntu@sha256:...
//
// That is, the host defaults to docker.io, and index.docker.io is another name for it. A
// repository of one element on that host is in library. The tag defaults to latest if there
// is no digest. If there is a digest, a tag is kept, although docker pull uses only the
// digest.
//
// Like Docker, ParseDocker refuses a string of only 64 lower-case hexadecimal digits, which
// is an image ID to the docker command. It also refuses a reference whose first of several
// path elements has a period but is not a valid host, such as foo_bar.com/app: Docker takes
// that element for the host, but no such host can exist.
//
// [Parse] parses the String form of the result to the same Reference.
func ParseDocker(s string) (Reference, error) {
	if isHex(s, sha256Hex) {
		return Reference{}, fmt.Errorf("invalid reference %s: 64 hexadecimal digits are an image ID, not a repository", quote(s))
	}
	ref, err := ParseRelative(s)
	if err != nil {
		return Reference{}, err
	}
	switch ref.Host {
	case "":
		if first, _, ok := strings.Cut(ref.Repository, "/"); ok && strings.Contains(first, ".") {
			return Reference{}, parseError(s, "host", first, hostProblem)
		}
		ref.Host = dockerHost
	case dockerIndexHost:
		ref.Host = dockerHost
	}
	if ref.Host == dockerHost && !strings.Contains(ref.Repository, "/") {
		ref.Repository = dockerOfficial + ref.Repository
		if problem := repositoryProblem(ref.Repository); problem != "" {
			return Reference{}, parseError(s, "repository", ref.Repository, problem)
		}
	}
	if ref.Tag == "" && ref.Digest == "" {
		ref.Tag = dockerDefaultTag
	}
	return ref, nil
}
