"""`bench stream`: what a stream seen once costs against having everything from the start."""
