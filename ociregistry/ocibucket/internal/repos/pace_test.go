package repos

import "testing"

// A clock may not tell how long a request took.
func TestPace_GivesWayIfRequestsTakeNoTime(t *testing.T) {
	t.Parallel()
	var p pace
	for range 2 * maxEvery {
		p.lost()
		p.others++
		p.won()
		p.took(0)
		p.giveWay(t.Context())
	}
	if p.wins != 0 {
		t.Errorf("%d wins without a pause", p.wins)
	}
}
