package repos

import (
	"context"
	"math/rand/v2"
	"time"
)

// pace says when a process that appends gives way to others. Who was first has the next record
// ready after one request, and who lost needs two: without a pause the winner would win again, and the
// others would wait for as long as it has something to do. So who was first waits for about as many
// requests as others were first before him: they take turns. What comes meanwhile goes into
// the same record, so a pause takes nothing from what a process can do.
type pace struct {
	request time.Duration // how long a request takes
	others  int           // how many records of others came since the last win
	turn    int           // how many that were before it
	wins    int           // in a row, without a pause
	every   int           // after how many of them there is a pause, if nobody else is known
	losses  int           // in a row
}

const (
	maxEvery = 16
	maxPause = time.Second
)

func (p *pace) took(d time.Duration) {
	if p.request == 0 {
		p.request = d
	}
	p.request += (d - p.request) / 8
}

func (p *pace) won() {
	p.wins++
	p.turn, p.others, p.losses = p.others, 0, 0
}

func (p *pace) lost() {
	p.wins, p.every = 0, 1
	p.losses++
}

// giveWay waits a little if it is the others' turn.
func (p *pace) giveWay(ctx context.Context) {
	if p.wins == 0 || p.turn == 0 && p.wins < p.every {
		return
	}
	pause := p.request/2 + rand.N(2*p.request+1)
	if p.turn > 0 {
		pause += rand.N(time.Duration(p.turn)*p.request + 1)
	} else {
		p.every = min(max(2*p.every, 2), maxEvery)
	}
	p.wins = 0
	timer := time.NewTimer(min(pause, maxPause))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
