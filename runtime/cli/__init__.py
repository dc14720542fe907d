"""teleport, tctl and tsh: parse, call, render. console.py alone prints and exits; imports stay light."""
