"""What a learner did, on one page that opens anywhere."""
