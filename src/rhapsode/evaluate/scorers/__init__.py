"""What an answer is worth, found by rule: nobody's opinion is asked. The same scorers judge and reward."""
