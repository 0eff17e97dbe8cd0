"""How much of a pool will stand idle: policies that offer a number, and the harness that measures what each would have earned."""
