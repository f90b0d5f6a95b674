package message

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestUsualNamesAreInOrder(t *testing.T) {
	if !slices.IsSorted(usualNames[:]) {
		t.Error("the names are searched by halves")
	}
}

// usualHeader is the header section of a message of a mailing list.
var usualHeader = strings.ReplaceAll(`Return-Path: <list-bounces@lists.example.org>
Received: from mail.example.org (mail.example.org [192.0.2.1])
	by mx.example.net (Postfix) with ESMTPS id 4XyZ
	for <user@example.net>; Sat, 28 Nov 2026 06:00:00 +0000 (UTC)
Received: from localhost by mail.example.org; Sat, 28 Nov 2026 06:00:00 +0000
DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=s1; h=From:To:Subject;
	bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA
Authentication-Results: mx.example.net; spf=pass
From: A Person <person@example.org>
To: "The list" <list@lists.example.org>
Subject: [list] =?utf-8?q?gr=C3=BC=C3=9Fe?= and a folded
 subject
Date: Sat, 28 Nov 2026 06:00:00 +0000
Message-ID: <1@example.org>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit
List-Id: <list.lists.example.org>
List-Unsubscribe: <mailto:leave@lists.example.org>
Precedence: list
`, "\n", "\r\n")

func TestFieldsOfIsParseHeader(t *testing.T) {
	for _, section := range []string{
		usualHeader, "", "\r\n", "no field\r\nA: b\r\n", "A : b\r\n", "From a@b\r\nTo: c", "a\x01: b\r\n", " folded first\r\nA: b\r\n c",
		"FROM: a\r\nX-Odd: b\r\n",
	} {
		var names []string
		var all []byte
		for f := range FieldsOf([]byte(section)) {
			names = append(names, f.Name)
			all = append(all, f.Raw...)
		}
		if string(all) != section {
			t.Errorf("%q: its fields together are %q", section, all)
		}
		i := 0
		for f := range ParseHeader([]byte(section)).Fields() {
			if f.Name != names[i] {
				t.Errorf("%q: field %d is %q and %q", section, i, f.Name, names[i])
			}
			i++
		}
		if i != len(names) {
			t.Errorf("%q: %d fields and %d", section, i, len(names))
		}
	}
	for range FieldsOf([]byte("A: b\r\nC: d\r\n")) {
		break // and no more is given
	}
}

// scan is what a look at a header section is: its end, its fields, the hops.
func scan(text []byte) (received int) {
	n, _ := HeaderLen(text)
	for f := range FieldsOf(text[:n]) {
		if f.Name == "Received" {
			received++
		}
	}
	return received
}

func TestScanTakesNoMemory(t *testing.T) {
	text := append([]byte(usualHeader), "\r\nbody\r\n"...)
	if n := testing.AllocsPerRun(100, func() {
		if scan(text) != 2 {
			t.Error("the message has two Received fields")
		}
	}); n != 0 {
		t.Errorf("a look at a usual header section takes memory %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { ParseHeader(text[:len(usualHeader)]) }); n > 2 {
		t.Errorf("a header section that is kept takes memory %v times: the header, the list of its fields and no more", n)
	}
}

func BenchmarkHeaderScan(b *testing.B) {
	text := append([]byte(usualHeader), "\r\nbody\r\n"...)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if scan(text) != 2 {
			b.Fatal("the message has two Received fields")
		}
	}
}

func BenchmarkParseHeader(b *testing.B) {
	text := bytes.Clone([]byte(usualHeader))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		ParseHeader(text)
	}
}
