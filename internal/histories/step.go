package histories

// A step is what takes place at one moment in one repository. An operation is one
// step or several, and it is not known in which order they are, or when, but within
// the time of the operation.
type step struct {
	event *Event // whose step it is
	what  string // for people

	// One of these is set.
	holds func(s *state) bool   // of a read: whether the state is what was read
	next  func(s state) []state // of a write: what the state may be afterwards; nothing if it cannot take place
}

// require returns a step that reads.
func require(what string, holds func(s *state) bool) step {
	return step{what: what, holds: holds}
}

// change returns a step that writes. It cannot take place where f returns false.
func change(what string, f func(s *state) bool) step {
	return step{what: what, next: func(s state) []state {
		if f(&s) {
			return []state{s}
		}
		return nil
	}}
}

// orNot returns a step that may have taken place, or not.
func (st step) orNot() step {
	next := st.next
	st.what = "perhaps " + st.what
	st.next = func(s state) []state { return append(next(s), s) }
	return st
}

// requireSession and changeSession are for an upload session. Whatever is said of a
// vague one is right.

func requireSession(what string, number int, holds func(u *session) bool) step {
	return require(what, func(s *state) bool {
		u := &s.sessions[number-1]
		return u.vague() || holds(u)
	})
}

func changeSession(what string, number int, f func(u *session) bool) step {
	return change(what, func(s *state) bool {
		u := &s.sessions[number-1]
		return u.vague() || f(u)
	})
}
