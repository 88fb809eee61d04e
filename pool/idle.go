// idle.go takes idle connections and puts connections back: which one, whether it is still usable, and who gets it.

package pool

import "context"

// takeIdle takes an idle connection. It returns nil if there is none.
func (p *Pool) takeIdle() *resource {
	if p.idle.Load() <= 0 {
		return nil
	}
	if len(p.endpoints) > 1 {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.takeBalanced()
	}
	// If there is none after all, puddle makes a resource in the background, which construct refuses.
	res, err := p.puddle.TryAcquire(context.Background())
	if err != nil {
		return nil
	}
	if left := p.idle.Add(-1); int(left) < p.opts.MinIdle {
		p.poke()
	}
	return res
}

// takeBalanced takes the idle connection that Balance prefers. Called with mu held.
func (p *Pool) takeBalanced() *resource {
	all := p.puddle.AcquireAllIdle()
	p.idle.Add(-int32(len(all)))
	for _, e := range p.endpoints {
		e.idle = 0
	}
	for _, res := range all {
		res.Value().endpoint.idle++
	}
	chosen := p.choose(&p.takeTurn, func(e *endpoint) bool { return e.idle > 0 }, func(e *endpoint) int { return e.conns - e.idle })
	var taken *resource
	// The one used last comes first, and is pushed back last.
	for i, res := range all {
		if res.Value().endpoint == chosen {
			taken, all[i] = res, nil
			break
		}
	}
	p.putIdle(all)
	if p.short() > 0 {
		p.poke()
	}
	return taken
}

// putIdle puts unused connections back, the last one at the bottom. Called with mu held.
func (p *Pool) putIdle(all []*resource) {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i] != nil {
			all[i].ReleaseUnused()
			p.idle.Add(1)
		}
	}
}

// fit reports whether a connection can be handed out, and discards it if it cannot. An error is ctx's.
func (p *Pool) fit(ctx context.Context, res *resource, hot bool) (bool, error) {
	l := res.Value()
	if l.expired.Load() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.counts.expired++
		p.retire(res, politely)
		return false, nil
	}
	if !l.reusable() {
		p.discard(res)
		return false, nil
	}
	if hot || p.opts.CheckAfter == 0 || res.IdleDuration() < p.opts.CheckAfter {
		return true, nil
	}
	check, cancel := ctx, context.CancelFunc(func() {})
	if p.opts.CheckTimeout > 0 {
		check, cancel = context.WithTimeout(ctx, p.opts.CheckTimeout)
	}
	defer cancel()
	_, err := l.conn.Ping(check, nil)
	switch {
	case err == nil && l.reusable():
		return true, nil
	case err == nil:
		// A late answer has arrived ahead of the pong.
		p.discard(res)
		return false, nil
	case ctx.Err() != nil:
		// Nothing is known about the connection. Its next user will check it again.
		ended := canceled("acquire", ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.handOver(res, unused)
		return false, ended
	}
	p.mu.Lock()
	p.counts.checksFailed++
	p.mu.Unlock()
	p.discard(res)
	return false, nil
}

// takeIdleHeld is takeIdle with mu held.
func (p *Pool) takeIdleHeld() *resource {
	switch {
	case len(p.endpoints) == 1:
		return p.takeIdle()
	case p.idle.Load() <= 0: // takeIdle would ask again, and might take mu then
		return nil
	}
	return p.takeBalanced()
}

// giveBack takes a connection back from a user who left it in good order.
func (p *Pool) giveBack(res *resource) {
	l := res.Value()
	if !l.proven.Load() {
		p.mu.Lock()
		l.proven.Store(true)
		l.endpoint.failures = 0
		p.mu.Unlock()
	}
	if p.attention.Load() != 0 || l.expired.Load() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.handOver(res, usedNow)
		return
	}
	res.Release()
	p.idle.Add(1)
	// An Acquire that began to wait between the check above and the Release has found nothing idle.
	if p.attention.Load() != 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed {
			p.closeIdle()
		}
		p.pump()
	}
}

// The states in which a connection comes to handOver.
const (
	usedNow = true  // a user is done with it
	unused  = false // it was not used, and its idle time continues
)

// handOver gives a connection to the longest waiter, or adds it to the idle ones. Called with mu held.
func (p *Pool) handOver(res *resource, hot bool) {
	l := res.Value()
	w := p.queue.front
	switch {
	case p.closed:
		p.retire(res, politely)
	case l.expired.Load():
		p.counts.expired++
		p.retire(res, politely)
	case w != nil:
		p.serve(w, delivery{res: res, hot: hot})
	case hot:
		res.Release()
		p.idle.Add(1)
	default:
		res.ReleaseUnused()
		p.idle.Add(1)
	}
}
