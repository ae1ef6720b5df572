"""What a cluster needs in an account of AWS or Google Cloud: roles and a bucket for the results. No torch, no ray."""
