"""The front door: each argument of a public function is checked and converted here, once."""
