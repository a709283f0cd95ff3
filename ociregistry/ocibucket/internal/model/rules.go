// Package model is a randomized model of the protocol that DESIGN.md of this module describes:
// processes that change repositories in a bucket, with requests that are lost, late or repeated, and
// with crashes and pauses. Its tests run it with all rules, which
// must never violate an invariant, and with each rule turned off, which must.
//
// A process here is what the engine is to be, in small: store.go has the bucket, sim.go decides
// who goes on and what fails, log.go, link.go, blob.go, session.go, manifest.go and gc.go have
// the protocol, and invariants.go says what must hold.
package model

// A rule is a part of the protocol that can be turned off.
type rule string

// The rules.
const (
	fresh       rule = "fresh"       // each body under a condition has a nonce of its own
	opIDs       rule = "opIDs"       // an unclear append is settled by the operation's id
	settled     rule = "settled"     // a call has one id, and is refused only when its unclear appends cannot land any more
	void        rule = "void"        // what lands more than G/2 after its T0 does not count
	slack       rule = "slack"       // a writer takes what may be void for void: a Date may be a second early
	dateCheck   rule = "dateCheck"   // validations more than G/2 apart mean reading anew
	groupCheck  rule = "groupCheck"  // an operation is checked against those before it in its record
	snapForget  rule = "snapForget"  // loading a state forgets known links
	asOf        rule = "asOf"        // the record of a delete makes links that were read before it unknown
	noncedRefs  rule = "noncedRefs"  // a reference's key is for one attempt
	markers     rule = "markers"     // dedupe looks at the marker after it wrote its reference
	deadLinks   rule = "deadLinks"   // a link becomes dead under a condition, and is not deleted
	heal        rule = "heal"        // who meets a link whose delete is recorded finishes it; deleted nonces stay until then
	ownDead     rule = "ownDead"     // who finds its own link dead has not succeeded
	condemn     rule = "condemn"     // GC condemns a link before it deletes it, and who promises it revives it
	claims      rule = "claims"      // numbers of parts are claimed before the parts are sent
	committing  rule = "committing"  // a session is committing before anything of its blob is written
	expiry      rule = "expiry"      // a session expires under a condition
	sessionRoot rule = "sessionRoot" // what a session names is no orphan
	gcOrder     rule = "gcOrder"     // orphans: list d/, then u/, then b/
	keepSnap    rule = "keepSnap"    // the newest snapshot of an emptied repository stays
	keepLast    rule = "keepLast"    // the newest record stays
	carriedVoid rule = "carriedVoid" // a record that is void is carried as one
	keepC       rule = "keepC"       // c/ is never deleted
	eDelete     rule = "eDelete"     // e/ is written before a record that may empty a repository
	eRecheck    rule = "eRecheck"    // whether it may is asked again of each state that the record is checked against
	eFirst      rule = "eFirst"      // e/ is written before c/
	eDate       rule = "eDate"       // T0 of such a record is not after e/
	eAge        rule = "eAge"        // e/ is removed when it is older than G, if there is content
	eOwn        rule = "eOwn"        // who marked a new name removes the mark when content has come
	manifests   rule = "manifests"   // manifests become objects before a snapshot replaces their records
	buryMs      rule = "buryMs"      // manifests' objects are condemned and buried as links are
	urlDate     rule = "urlDate"     // a URL's validity begins with the Date of the link's GET
	urlShort    rule = "urlShort"    // a URL is valid for less than G
)

var allRules = []rule{
	fresh, opIDs, settled, void, slack, dateCheck, groupCheck, snapForget, asOf, noncedRefs, markers, deadLinks, heal, ownDead, condemn,
	claims, committing, expiry, sessionRoot, gcOrder, keepSnap, keepLast, carriedVoid, keepC, eDelete, eRecheck, eFirst, eDate, eAge, eOwn, manifests, buryMs,
	urlDate, urlShort,
}

// The times of the model, in its seconds. What matters is their order.
const (
	grace    = 300 // G
	lateness = 80  // the maximum time that a request is on its way after its client gave it up
	delay    = 120 // of GC: for how long a promise holds
	urlValid = grace - lateness
	expires  = 100 // sessions
	tolerate = 2   // slack
)
