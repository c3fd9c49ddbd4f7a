"""What a job farm installs: publishing and labelling; never torch."""
