package ociref

import (
	"fmt"
	"strings"
)

const (
	// dockerHost is the host in normalized references to Docker Hub.
	// It is a name for the registry, whose API is at registry-1.docker.io.
	dockerHost = "docker.io"

	// dockerIndexHost is another name of dockerHost, from the time of
	// Docker's first registry protocol.
	dockerIndexHost = "index.docker.io"

	// dockerOfficial is where Docker Hub keeps repositories whose names have
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
// That is: the host defaults to docker.io, where index.docker.io is the same;
// a repository of one element there is in library; and the tag defaults to
// latest if there is no digest either. A tag beside a digest is kept, although
// docker pull looks at the digest alone.
//
// Like Docker, it refuses 64 lower-case hexadecimal digits alone, because they
// are an image ID to the docker command. It also refuses a first of several
// path elements that has a period but is not a valid host (foo_bar.com/app):
// Docker takes it for the host as well, but no such host can exist.
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
