"""Process proxies: what stands where the local process of a kernel would."""
