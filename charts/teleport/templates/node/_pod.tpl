{{/* The pod of a node. */}}
{{- define "teleport.nodePod" -}}
{{- $part := dict "root" . "name" "node" "values" .Values.node "config" "nodeFiles" -}}
metadata:
  {{- include "teleport.podMetadata" $part | nindent 2 }}
spec:
  {{- include "teleport.podSettings" $part | nindent 2 }}
  securityContext:
    seccompProfile:
      type: RuntimeDefault
  {{- if .Values.node.users }}
  initContainers:
    # Home folders belong to their users: only root can give them away.
    - name: homes
      {{- include "teleport.containerSettings" $part | nindent 6 }}
      command:
        - sh
        - -ec
        - |
          {{- range .Values.node.users }}
          install -d -m 0700 -o {{ .uid }} -g {{ .uid }} /home/{{ .name }}
          {{- end }}
      securityContext:
        runAsUser: 0
        runAsGroup: 0
        readOnlyRootFilesystem: true
        allowPrivilegeEscalation: false
        capabilities:
          drop: [ALL]
          add: [CHOWN, FOWNER]
      volumeMounts:
        - {name: home, mountPath: /home}
  {{- end }}
  containers:
    - name: node
      {{- include "teleport.containerSettings" $part | nindent 6 }}
      {{- if eq .Values.node.nameFrom "host" }}
      command: [teleport, start, --roles=node, --nodename=$(HOST_NAME)]
      {{- else }}
      command: [teleport, start, --roles=node]
      {{- end }}
      {{- if or (eq .Values.node.nameFrom "host") .Values.node.extraEnv }}
      env:
        {{- if eq .Values.node.nameFrom "host" }}
        - name: HOST_NAME
          valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
        {{- end }}
        {{- with .Values.node.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      ports:
        - {name: ssh, containerPort: 3022}
        - {name: diag, containerPort: 3000}
      {{- include "teleport.probes" . | nindent 6 }}
      securityContext:
        {{- toYaml .Values.node.securityContext | nindent 8 }}
      volumeMounts:
        {{- include "teleport.memberMounts" . | nindent 8 }}
        - {name: home, mountPath: /home}
        - {name: root, mountPath: /root}
        - {name: run, mountPath: /run}
        {{- if .Values.node.users }}
        - {name: config, mountPath: /etc/passwd, subPath: passwd, readOnly: true}
        - {name: config, mountPath: /etc/group, subPath: group, readOnly: true}
        {{- end }}
        {{- with .Values.node.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- include "teleport.memberVolumes" $part | nindent 4 }}
    # What people write into is gone with the pod.
    - name: home
      emptyDir: {}
    - name: root
      emptyDir: {}
    - name: run
      emptyDir: {}
    {{- with .Values.node.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* All that a node's ConfigMap holds: accounts count from the start on too. */}}
{{- define "teleport.nodeFilesConfig" -}}
{{ include "teleport.nodeConfig" . }}
{{ include "teleport.passwd" . }}
{{- end -}}

{{- define "teleport.passwd" -}}
root:x:0:0:root:/root:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
{{- range .Values.node.users }}
{{ .name }}:x:{{ .uid }}:{{ .uid }}::/home/{{ .name }}:{{ default "/bin/bash" .shell }}
{{- end }}
{{- end -}}

{{- define "teleport.group" -}}
root:x:0:
tty:x:5:
nogroup:x:65534:
{{- range .Values.node.users }}
{{ .name }}:x:{{ .uid }}:
{{- end }}
{{- end -}}
