"""Many runs over a range of dates, or over stored events."""
