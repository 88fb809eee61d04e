//go:build !linux

// park_other.go is for systems without epoll: readers wait for as long as their connections live.

package wsd

const canPark = false

type parkingLot struct{}

var parked parkingLot

func (*parkingLot) add(*Conn) bool    { return false }
func (*parkingLot) remove(*Conn) bool { return false }
func (*parkingLot) unregister(*Conn)  {}
