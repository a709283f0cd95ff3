package interop

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestClientContract checks that ociclient keeps the contract with registries that
// others have written, but for the clauses that these do not keep themselves.
func TestClientContract(t *testing.T) {
	t.Parallel()
	for name, p := range peers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reasons := make(map[string]string)
			for why, clauses := range p.deviations {
				for _, clause := range strings.Fields(clauses) {
					reasons[clause] = why
				}
			}
			newRegistry := func(t testing.TB) ociregistry.Interface {
				_, clause, _ := strings.Cut(t.Name(), name+"/")
				group, _, _ := strings.Cut(clause, "/")
				for _, name := range []string{group, clause} {
					if why := reasons[name]; why != "" {
						t.Skip(why)
					}
				}
				return openSite(t, p, anonymous, plainHTTP).client(t, ociclient.Options{Retry: quickly})
			}
			ocitest.Run(t, newRegistry, &ocitest.Options{
				Remote:          true,
				AdoptsUploadIDs: p.lacks[askUpload],
				Absent:          ocitest.MountFromAny | ocitest.Conditions,
			})
		})
	}
}

// quickly is for registries that fail in the same way again and again.
var quickly = ociclient.RetryPolicy{Wait: time.Millisecond}

// Why registries deviate from the contract in whole groups of clauses.
const (
	notMeasured     = "the registry is in this process, and buffers"
	knowsNoRepos    = "what has no manifests is no repository for it, nor is one ever unknown for blobs and manifests"
	deletesUsed     = "it deletes what is in use"
	ignoresUnknowns = "it is not told what it cannot do"
	comparesNoSizes = "it takes manifests that are wrong about sizes"
)

var distributionDeviations = map[string]string{
	notMeasured: `Memory`,
	knowsNoRepos: `Arguments/Digests Blocking/UploadIsClosed Context/EndedBefore Context/EndsPushBlob Context/EndsPushBlobAtItsReader
		DeleteBlob/Unknown DeleteManifest/Unknown DeleteTag/Unknown
		List/AsksAgain List/RepositoriesAfter List/RepositoriesInByteOrder List/RepositoriesMany List/StopsEarly List/TagsUnknownRepository
		MountBlob/FromRepository MountBlob/SHA512 MountBlob/SourceAndTargetAreIndependent MountBlob/SourceHasToHaveIt MountBlob/UnknownSource
		PushBlob/FailsWithItsReader PushBlob/Stores PushBlob/VerifiesDigest PushBlob/VerifiesSize PushManifest/VerifiesDigest
		Read/UnknownRepository Repository Session/CancelEndsItForAll
		Upload/AfterCancel Upload/AfterClose Upload/SHA512 Upload/Stores Upload/VerifiesDigest`,
	deletesUsed: `Allowances/NotKnown DeleteBlob/InUse DeleteBlob/InUseBelowAnIndex DeleteBlob/InUseTwice DeleteBlob/OfAManifest
		DeleteManifest/InUse DeleteManifest/InUseInNestedIndexes DeleteManifest/InUseTwice References/InUse
		Concurrency/DeleteBlobAndPushManifest Concurrency/DeleteChildAndPushIndex Concurrency/DeleteManifestAndPushTag Concurrency/RepositoriesComeAndGo`,
	ignoresUnknowns: `Absent/Conditions`,
	comparesNoSizes: `References/Sizes References/SizesOfExemptLayers`,
	"it takes manifests of types that it knows only": `DeleteBlob/UncheckedManifestsUseNothing PushManifest/Again PushManifest/ByDigest
		PushManifest/BySHA512Digest PushManifest/ByTags PushManifest/LastMediaTypeWins PushManifest/MissingSubject PushManifest/UnknownMediaType
		PushManifest/WithoutMediaTypeField References/Missing References/OtherRepositoriesDoNotCount References/Present Referrers/ORASArtifact`,
	"it is slow with chunks of one byte, of which there are 10,000": `Upload/ChunkSizeIsAHint`,
	"it fails on JSON that is null":                                 `PushManifest/ChecksJSON`,
	"it wants the blobs of all layers without URLs":                 `References/ExemptLayers`,
	"it knows a session at its newest location only":                `Session/FailedWriteStaysFailed Session/OneWriterAtAnOffset`,
	"it takes two chunks at once, of which one is lost":             `Concurrency/WritersOfOneSession`,
	"the identifier of a session has bits that do nothing":          `Session/IDsAreUnique`,
}

var ggcrDeviations = map[string]string{
	notMeasured: `Memory`,
	knowsNoRepos: `Arguments/Digests Context/EndedBefore Context/EndsPushBlob Context/EndsPushBlobAtItsReader
		List/AsksAgain List/RepositoriesAfter List/RepositoriesInByteOrder List/RepositoriesMany List/StopsEarly List/TagsUnknownRepository
		PushBlob/FailsWithItsReader PushBlob/Stores PushBlob/VerifiesDigest PushBlob/VerifiesSize PushManifest/VerifiesDigest
		Read/UnknownRepository Repository Session/FailedWriteStaysFailed Upload/SHA512 Upload/Stores`,
	deletesUsed: `Allowances/NotKnown DeleteBlob/InUse DeleteBlob/InUseBelowAnIndex DeleteBlob/InUseTwice
		DeleteManifest/InUse DeleteManifest/InUseInNestedIndexes DeleteManifest/InUseTwice References/InUse
		Concurrency/DeleteBlobAndPushManifest Concurrency/DeleteChildAndPushIndex Concurrency/DeleteManifestAndPushTag Concurrency/RepositoriesComeAndGo`,
	ignoresUnknowns: `Absent/Conditions`,
	comparesNoSizes: `References/Sizes References/SizesOfExemptLayers`,
	"it does not tell how much a session has, does not cancel one, and takes any identifier": `Arguments/UploadIDs
		Blocking/UploadIsClosed Concurrency/CommitAndWrite Concurrency/WritersOfOneSession Context/UploadSurvives
		Session/BelongsToARepository Session/CancelEndsItForAll Session/CommitEndsItForAll Session/OneWriterAtAnOffset
		Session/Resumes Session/ResumesBeforeFirstWrite Session/ResumesManyTimes
		Upload/AfterCancel Upload/AfterClose Upload/AfterCommit Upload/VerifiesDigest`,
	"blobs belong to all of its repositories":                     `DeleteBlob/InUseElsewhere DeleteBlob/OneRepositoryOnly PushBlob/OneRepositoryOnly Read/OtherRepository`,
	"it does not mount":                                           `Blocking/PushBlob Blocking/Reader Blocking/Upload Blocking/WriterTo MountBlob`,
	"a failure is its answer to deletes of blobs it has not":      `DeleteBlob/Deletes DeleteBlob/OfAManifest DeleteBlob/Unknown`,
	"tags stay when their manifest is deleted":                    `DeleteManifest/OneRepositoryOnly DeleteManifest/PushedAgain DeleteManifest/TakesItsTags`,
	"it names manifests by SHA-256 only, and does not check them": `PushManifest/BySHA512Digest PushManifest/ChecksJSON PushManifest/ChecksMediaType PushManifest/ErrorsCarryNoContent References/Malformed References/Missing References/MissingInNestedIndex References/OtherRepositoriesDoNotCount`,
}
