package pebble_test

import "github.com/postern-mta/postern/core/queue/queuetest"

// What tests of the queue share.
var (
	birth     = queuetest.Birth
	mustClose = queuetest.MustClose
	envelope  = queuetest.Envelope
	text      = queuetest.Text
	stored    = queuetest.Stored
	write     = queuetest.Write
	add       = queuetest.Add
	mustAdd   = queuetest.MustAdd
	bodyOf    = queuetest.BodyOf
	due       = queuetest.Due
	id        = queuetest.ID
)

const from = queuetest.From
