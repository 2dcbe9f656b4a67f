"""How good an alignment is: evidence, verdict, expected error, landmark errors."""
