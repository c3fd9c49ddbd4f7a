"""`bench coverage`: do intervals of 90 % hold nine labels of ten, in a steady stream and where domains change?"""
