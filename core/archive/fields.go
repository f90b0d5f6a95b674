package archive

import "math"

// fields reads the numbers and texts of a header one behind the other. What goes beyond
// its end makes it broken, and is nothing.
type fields struct {
	b      []byte
	broken bool
}

// take is the next n bytes.
func (f *fields) take(n uint64) []byte {
	if n > uint64(len(f.b)) {
		f.broken, f.b = true, nil
		return nil
	}
	out := f.b[:n]
	f.b = f.b[n:]
	return out
}

// number is one of n bytes, the lowest first; n is at most 8.
func (f *fields) number(n int) (v uint64) {
	for i, c := range f.take(uint64(n)) {
		v |= uint64(c) << (8 * i)
	}
	return v
}

// varint is a number of RAR: seven bits in each byte, the lowest first, the eighth says
// that another byte follows.
func (f *fields) varint() (v uint64) {
	for shift := 0; shift < 64; shift += 7 {
		c := f.number(1)
		v |= c & 0x7f << shift
		if c < 0x80 {
			return v
		}
	}
	f.broken = true
	return 0
}

// number7z is a number of 7z: the ones on top of the first byte tell how many bytes
// follow, its other bits stand above those.
func (f *fields) number7z() (v uint64) {
	first := f.number(1)
	for i, mask := 0, uint64(0x80); i < 8; i, mask = i+1, mask>>1 {
		if first&mask == 0 {
			return v | first&(mask-1)<<(8*i)
		}
		v |= f.number(1) << (8 * i)
	}
	return v
}

// count is a number7z of things that take at least one byte each of what follows.
func (f *fields) count() int {
	n := f.number7z()
	if n > uint64(len(f.b)) || n > math.MaxInt32 {
		f.broken, f.b = true, nil
		return 0
	}
	return int(n)
}

// bits are n flags, the highest bit of each byte first.
func (f *fields) bits(n int) []bool {
	raw := f.take(uint64(n+7) / 8)
	if f.broken {
		return nil
	}
	out := make([]bool, n)
	for i := range out {
		out[i] = raw[i/8]&(0x80>>(i%8)) != 0
	}
	return out
}

// someBits are n flags, in short where all are set.
func (f *fields) someBits(n int) (flags []bool, set int) {
	if f.number(1) != 0 {
		if f.broken {
			return nil, 0
		}
		return nil, n
	}
	flags = f.bits(n)
	for _, one := range flags {
		if one {
			set++
		}
	}
	return flags, set
}
