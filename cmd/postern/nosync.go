//go:build nosync

package main

const durable = false
