//go:build linux

package main

import "context"

func runBacklog(ctx context.Context, args []string) error { return nil }
