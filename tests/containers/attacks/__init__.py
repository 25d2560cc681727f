"""A cluster that strangers reach: what they send is refused, nothing is lost, and training goes on as fast as before."""
