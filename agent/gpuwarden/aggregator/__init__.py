"""The aggregator: takes what nodes tell, judges the fleet, and answers people."""
