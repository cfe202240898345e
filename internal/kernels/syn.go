package kernels

// SYNRetries returns when a kernel repeats an unanswered SYN, in seconds from the first one, as far
// as tcp_syn_retries (6) allows. The wait doubles from 1 s on. From Linux 6.5 on the first four
// repetitions come a second apart (tcp_syn_linear_timeouts).
func SYNRetries(v Version) []float64 {
	if v.AtLeast(6, 5) {
		return []float64{1, 2, 3, 4, 5, 7, 11, 19, 35, 67}
	}
	return []float64{1, 3, 7, 15, 31, 63}
}

// LargestBuckets is the most buckets that the kernel allocates: INT_MAX / sizeof(struct
// hlist_nulls_head), from Linux 4.7 on (nf_ct_alloc_hashtable).
const LargestBuckets = (1<<31 - 1) / bucketBytes
